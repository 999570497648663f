"""Unlabeled images and their random views."""

from moca.pretrain.data import corrupt, dataset, views

__all__ = ['corrupt', 'dataset', 'views']
