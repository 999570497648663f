"""What the runs measured: records of finished runs, the leaderboard, pictures of predictions."""

from moca.evaluation import feature_pictures, knn

__all__ = ['feature_pictures', 'knn']
