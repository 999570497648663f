"""Self-supervised pre-training methods and their parts."""

from moca.pretrain import corrupt, data, loop, optim, released, schedules, views
from moca.pretrain.moca import MOCAPretrain

__all__ = ['MOCAPretrain', 'corrupt', 'data', 'loop', 'optim', 'released', 'schedules', 'views']
