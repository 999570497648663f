"""MOCA: the student predicts the teacher's masked online codebook assignments."""

from moca.pretrain.moca import released
from moca.pretrain.moca.method import MOCAPretrain

__all__ = ['MOCAPretrain', 'released']
