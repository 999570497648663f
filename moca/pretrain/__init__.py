"""Self-supervised pre-training: the methods, what they share, and their training."""

from moca.pretrain import data, monitors, training
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
    'data',
    'monitors',
    'training',
]
