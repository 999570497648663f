"""What a checkpoint file says of itself: the config of its run, or the notes of an export."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from typing import Any

from moca.backbone.arch import ArchSpec, vit_dimensions
from moca.engine.config_text import read_literals
from moca.errors import UserError

# Of the notes that an exported file carries in its `meta`; their presence tells such a file.
NOTES_VERSION = '1'

OWN_FAMILIES = ('pre-training run', 'downstream run')
"""What checkpoints of this suite are called in `moca.backbone.files.FAMILIES`."""


def run_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the mmengine run that wrote a checkpoint; empty where there is none.

    Args:
        content: What :func:`moca.backbone.read.read_file` returned, as for the others.
    """
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return read_literals(text) if isinstance(text, str) else {}


def run_notes(content: Mapping[str, Any]) -> dict[str, str]:
    """Method, architecture and age, from a run's config or from a released file's arguments."""
    notes: dict[str, Any] = {}
    model = run_config(content).get('model')
    if isinstance(model, dict):
        backbone = model.get('backbone')
        notes['method'] = model.get('type')
        notes['arch'] = backbone.get('arch') if isinstance(backbone, dict) else None
        notes['step'] = content['meta'].get('iter')
        notes['epoch'] = content['meta'].get('epoch')
    elif isinstance(content.get('args'), argparse.Namespace):
        arguments = vars(content['args'])
        notes['arch'] = arguments.get('model', arguments.get('arch'))
        if isinstance(content.get('epoch'), int):
            notes['epoch'] = content['epoch'] + 1  # the released code counts from 0
    return {
        key: value if isinstance(value, str) else json.dumps(value, default=str)
        for key, value in notes.items()
        if isinstance(value, str | int | dict)
    }


def exported_notes(content: Mapping[str, Any]) -> dict[str, str]:
    """What an exported file notes of where it came from; empty for any other file."""
    meta = content.get('meta')
    if not isinstance(meta, Mapping) or 'notes_version' not in meta:
        return {}
    return {key: value for key, value in meta.items() if isinstance(value, str)}


def noted_arch(content: Mapping[str, Any]) -> ArchSpec | None:
    """The architecture of the run of ours that wrote a file or that it is exported from, or None.

    Other tools' names for theirs may mean another network than timm's of that name.
    """
    exported = exported_notes(content)
    backbone = (run_config(content).get('model') or {}).get('backbone')
    arch: Any = None
    try:
        if exported.get('family') in OWN_FAMILIES:
            arch = exported.get('arch')
            arch = json.loads(arch) if arch and arch.startswith('{') else arch
        elif isinstance(backbone, dict) and backbone.get('type') == 'PlainViT':
            arch = backbone.get('arch')
        if arch:
            vit_dimensions(arch)
    except (UserError, ValueError, TypeError, AssertionError, ArithmeticError, RuntimeError):
        return None  # dimensions of no ViT
    return arch or None
