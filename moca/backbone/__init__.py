"""The plain ViT: attention, windows, positions and architectures.

The package can be called: it loads the ViT of a checkpoint of any family.

    vit = moca.backbone('vit.pth', arch=None, branch=None, prefix=None, trust=False, device=None,
                        amp=False, patch=None, mean=None, std=None)
    vit.features('street.jpg').patches    # [h, w, C], numpy
    vit.vit                               # a torch.nn.Module, to go on with

``help(moca.predict.backbones.load_backbone)`` explains each argument.
"""

import sys
from importlib import import_module
from types import ModuleType
from typing import Any

# No `__all__`: help(moca.backbone) would list every class of it with all methods of torch's.
from moca.backbone.arch import ViTDimensions as ViTDimensions
from moca.backbone.arch import vit_dimensions as vit_dimensions
from moca.backbone.compile import CompileBlocks as CompileBlocks
from moca.backbone.vit import PlainViT as PlainViT
from moca.backbone.vit import Tokens as Tokens

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
