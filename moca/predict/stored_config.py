"""A config that lies within a checkpoint is a stranger's, and may name components alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.utils import import_modules_from_strings

from moca.engine.config_check import is_known, walk
from moca.errors import UserError

_LIBRARIES = ('moca', 'mmengine', 'mmcv', 'mmseg', 'mmdet', 'mmpretrain')
"""Packages that a stored config may import, and whose registries it may name."""

_OF_MMCV = {'nms', 'soft_nms', 'nms_match'}
"""Functions that mmcv looks up by themselves (``mmcv.ops.batched_nms`` evaluates the name)."""

_EVALUATES = {'CameraMotionCompensation'}
"""Components that evaluate a text of their config (mmdet's of tracking does)."""

_BUILT = ('model', 'test_', 'val_', 'tta_', 'data_preprocessor')
"""What the fields of a config that predicting builds begin with."""


def import_stored(cfg: Config, path: Path) -> None:
    """Import what a stored config asks for, and verify the names of what would be built of it.

    mmengine takes a ``type`` that no registry has for a name in any package, calls whatever is
    there, and mmcv evaluates the one of a non-maximum suppression: ``os.system`` is such a name.

    Raises:
        UserError: A name is none of a component of this suite or its libraries.
    """
    remedy = 'If you trust it, give the config that it was trained with as well'
    imports = cfg.get('custom_imports') or {}
    modules = imports.get('imports') or []
    for module in [modules] if isinstance(modules, str) else modules:
        if str(module).partition('.')[0] not in _LIBRARIES:
            raise UserError(f'{path}: its stored config imports {module!r}. {remedy}.')
    if imports:
        import_modules_from_strings(**imports)
    for field, node in walk(cfg.to_dict(), ''):
        for key in ('type', 'constructor') if field.startswith(_BUILT) else ():
            if key in node and not _is_component(node[key]):
                raise UserError(
                    f'{path}: in its stored config {field}.{key} is {node[key]!r}, no component '
                    f'that is known here. {remedy}.'
                )


def _is_component(name: Any) -> bool:
    if not isinstance(name, str):
        return False
    scope, _, last = name.rpartition('.')
    known = scope in ('', *_LIBRARIES) and last not in _EVALUATES and is_known(last)
    return known or name in _OF_MMCV
