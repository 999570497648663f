"""Training-free evaluation of patch features."""

from moca.evaluation.dense import colors

__all__ = ['colors']
