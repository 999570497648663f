"""Watch an encoder while it trains: k-NN accuracy, segmentation, figures of its features."""

from moca.pretrain.monitors import dense, features, knn

__all__ = ['dense', 'features', 'knn']
