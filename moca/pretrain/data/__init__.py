"""Unlabeled images and their random views."""

from moca.images import corrupt
from moca.pretrain.data import dataset, views

__all__ = ['corrupt', 'dataset', 'views']
