"""Self-supervised pre-training methods and their parts."""

from moca.pretrain import corrupt, data, loop, optim, released, schedules, views
from moca.pretrain.can import CANPretrain
from moca.pretrain.macrl import MACRLPretrain
from moca.pretrain.mae import MAEPretrain
from moca.pretrain.moca import MOCAPretrain
from moca.pretrain.moma import MOMAPretrain

__all__ = [
    'CANPretrain',
    'MACRLPretrain',
    'MAEPretrain',
    'MOCAPretrain',
    'MOMAPretrain',
    'corrupt',
    'data',
    'loop',
    'optim',
    'released',
    'schedules',
    'views',
]
