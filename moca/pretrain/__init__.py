"""Self-supervised pre-training methods and their parts."""

from moca.pretrain.moca import MOCAPretrain

__all__ = ['MOCAPretrain']
