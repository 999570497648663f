"""A pre-training run: config, checks, schedule and parameter groups."""

from moca.pretrain.training import optim, schedule

__all__ = ['optim', 'schedule']
