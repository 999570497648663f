"""What the runs measured: records of finished runs, the leaderboard, pictures of predictions."""

from moca.evaluation import knn

__all__ = ['knn']
