"""The plain ViT: attention, windows, positions and architectures.

The package can be called: ``moca.backbone(CKPT)`` is `moca.predict.backbones.load_backbone`.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

from moca.backbone.arch import ViTDimensions, vit_dimensions
from moca.backbone.compile import CompileBlocks
from moca.backbone.vit import PlainViT, Tokens

__all__ = ['CompileBlocks', 'PlainViT', 'Tokens', 'ViTDimensions', 'vit_dimensions']

# Before checkpoints had a room of their own; scripts elsewhere still take them from here.
_MOVED = ('check_checkpoint', 'inspect_checkpoint', 'load_checkpoint')


def __getattr__(name: str) -> Any:
    if name in _MOVED:
        return getattr(import_module('moca.checkpoints'), name)
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')


class _Callable(ModuleType):
    """A package that loads a backbone when it is called."""

    def __call__(self, *args: Any, **options: Any) -> Any:
        return import_module('moca.predict.backbones').load_backbone(*args, **options)


sys.modules[__name__].__class__ = _Callable
