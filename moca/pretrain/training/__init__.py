"""A pre-training run: config, checks, loop, schedule and parameter groups."""

from moca.pretrain.training import loop, optim, schedule

__all__ = ['loop', 'optim', 'schedule']
