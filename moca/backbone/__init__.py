"""The plain ViT and the reading of anybody's checkpoints for it."""

from moca.backbone.arch import ViTDimensions, vit_dimensions
from moca.backbone.checkpoint import (
    CheckpointInfo,
    check_checkpoint,
    inspect_checkpoint,
    load_checkpoint,
)
from moca.backbone.compile import CompileBlocks
from moca.backbone.vit import PlainViT, Tokens

__all__ = [
    'CheckpointInfo',
    'CompileBlocks',
    'PlainViT',
    'Tokens',
    'ViTDimensions',
    'check_checkpoint',
    'inspect_checkpoint',
    'load_checkpoint',
    'vit_dimensions',
]
