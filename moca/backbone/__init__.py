"""The plain ViT: attention, windows, positions and architectures."""

from moca.backbone.arch import ViTDimensions, vit_dimensions
from moca.backbone.compile import CompileBlocks
from moca.backbone.vit import PlainViT, Tokens

__all__ = ['CompileBlocks', 'PlainViT', 'Tokens', 'ViTDimensions', 'vit_dimensions']
