"""Anybody's weights for a plain ViT: families, safe reading, loading and export."""

from moca.checkpoints.loading import (
    CheckpointInfo,
    check_checkpoint,
    inspect_checkpoint,
    load_checkpoint,
)
from moca.checkpoints.without_code import read_without_code

__all__ = ['CheckpointInfo', 'check_checkpoint', 'inspect_checkpoint', 'load_checkpoint']

read_without_code()
