"""The plain ViT and the reading of anybody's checkpoints for it."""

from moca.backbone.vit import PlainViT, Tokens

__all__ = ['PlainViT', 'Tokens']
