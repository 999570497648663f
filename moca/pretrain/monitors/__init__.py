"""Watch an encoder while it trains: k-NN accuracy and figures of its features."""

from moca.pretrain.monitors import features, knn

__all__ = ['features', 'knn']
