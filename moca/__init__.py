"""moca: pre-train plain ViTs without labels and measure them on dense prediction.

What a run has trained, and the features of any checkpoint, are a line away; images are files, or
arrays that are RGB ``[H, W, 3]`` uint8:

    model = moca.load('work_dirs/probe')        # a run's folder or checkpoint
    model.predict('street.jpg').mask            # see moca.predict.results
    vit = moca.backbone('moca_vitb.pth')
    vit.features(image).patches                 # see moca.predict.backbones

Importing the package takes no time and registers nothing. The parts of configs are registered in
mmengine's root registries when they are asked for: by a config's ``custom_imports``, by a tool, by
`load`, by importing the package that holds them (:mod:`moca.transfer` for downstream runs,
:mod:`moca.pretrain`, :mod:`moca.engine`), or all at once by `register_all`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from moca import ops  # (mmcv.ops must find its operators, whatever is imported next)

if TYPE_CHECKING:
    from moca.predict.backbones import load_backbone as backbone
    from moca.predict.predictor import load

__version__ = '0.1.0'

__all__ = ['backbone', 'load', 'ops', 'register_all']

_ROOMS = ('engine', 'backbone', 'checkpoints', 'pretrain', 'evaluation.classification', 'transfer')
_TRAINING_FREE = ('capi', 'davis', 'in_context', 'lost', 'spair')


def register_all() -> None:
    """Register every part that a config of this suite can name, mmseg's and mmdet's as well."""
    for name in (*_ROOMS, *(f'evaluation.dense.{part}' for part in _TRAINING_FREE)):
        import_module(f'moca.{name}')


def __getattr__(name: str) -> Any:
    """Import what is asked for: `load`, and `backbone`, a package that loads one when called."""
    if name == 'load':
        return import_module('moca.predict.predictor').load
    if name == 'backbone':
        return import_module('moca.backbone')
    raise AttributeError(f'module {__name__!r} has no attribute {name!r}')
