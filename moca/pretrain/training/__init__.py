"""A pre-training run: config, checks, schedule and parameter groups."""

from moca.pretrain.training import float8_teacher, optim, schedule

__all__ = ['float8_teacher', 'optim', 'schedule']
