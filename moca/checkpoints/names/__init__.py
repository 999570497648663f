"""What the tensors of a plain ViT are called by those who publish one, a file for each naming."""

from moca.checkpoints.names.aimv2 import AUTHORS as AIMV2
from moca.checkpoints.names.aimv2 import TRANSFORMERS as HF_AIMV2
from moca.checkpoints.names.capi import CAPI
from moca.checkpoints.names.huggingface import DINOV3 as HF_DINOV3
from moca.checkpoints.names.huggingface import TOWER, VIT
from moca.checkpoints.names.mmpretrain import MMPRETRAIN
from moca.checkpoints.names.openclip import OPENCLIP
from moca.checkpoints.names.original import ORIGINAL
from moca.checkpoints.names.radio import HF_RADIO, RADIO
from moca.checkpoints.names.trunk import Naming, Trunk

NAMINGS: tuple[Naming, ...] = (
    *(ORIGINAL, VIT, HF_DINOV3, TOWER, OPENCLIP, MMPRETRAIN, CAPI),
    *(RADIO, HF_RADIO, AIMV2, HF_AIMV2),
)
"""In the order in which they are tried."""

__all__ = ['NAMINGS', 'Naming', 'Trunk']
