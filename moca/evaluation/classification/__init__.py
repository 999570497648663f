"""Classes of images: linear probes, fine-tuning, and classifiers that others have trained."""

from moca.evaluation.classification import (
    accuracy,
    augmentation,
    classifier,
    dataset,
    feature_cache,
    first_process,
    heads,
    optim,
)
from moca.images import corrupt

__all__ = [
    'accuracy',
    'augmentation',
    'classifier',
    'corrupt',
    'dataset',
    'feature_cache',
    'first_process',
    'heads',
    'optim',
]
