"""Safe reading of checkpoint files: tensors and a few harmless classes, never code."""

from __future__ import annotations

import argparse
import collections
import json
import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path, PosixPath
from typing import Any

import numpy as np
import torch
from mmengine.logging import HistoryBuffer
from safetensors import SafetensorError, safe_open

from moca.backbone.arch import ArchSpec, vit_dimensions
from moca.checkpoints.containers import (
    CONFIG,
    config_beside,
    is_safetensors,
    locate,
    read_shards,
    refuse_folder,
    refuse_others,
)
from moca.checkpoints.integrity import CHECKSUM, verify_archive, verify_checksum, verify_tensors
from moca.engine.checkpoints import run_checkpoints
from moca.engine.renamed import modernize
from moca.errors import UserError
from moca.records.config_values import read_literals


def _statistic(owner: Any, name: str) -> Any:
    """Stand in for ``getattr`` while unpickling: HistoryBuffer pickles its methods through it.

    The real one would let a file reach any function through the classes allowed.
    """
    if owner is not HistoryBuffer or name not in ('mean', 'max', 'min', 'current'):
        raise pickle.UnpicklingError(f'GLOBAL builtins.getattr of {name!r}')
    return getattr(owner, name)


# Classes that the published files hold besides tensors: MOCA, DINO and iBOT pickle their
# argparse.Namespace, mmengine its log history.
ALLOWED: list[Any] = [
    argparse.Namespace,
    collections.defaultdict,
    HistoryBuffer,
    PosixPath,
    np.ndarray,
    np.dtype,
    # numpy's private makers of arrays and scalars, wherever this version keeps them
    np.zeros(0).__reduce__()[0],
    np.float64().__reduce__()[0],
    # by the names that NumPy 1 and 2 and Python 3.13 have given to the same things
    *(
        (maker.__reduce__()[0], f'numpy.{core}.multiarray.{name}')
        for core in ('core', '_core')
        for maker, name in ((np.zeros(0), '_reconstruct'), (np.float64(), 'scalar'))
    ),
    (PosixPath, 'pathlib._local.PosixPath'),
    *(type(np.dtype(kind)) for kind in ('float64', 'float32', 'int64', 'int32')),
    (_statistic, 'builtins.getattr'),
]

# What reading a damaged file raises: torch's unpickler trips over whatever the damage left.
_BROKEN = (
    AssertionError,
    SafetensorError,
    struct.error,
    AttributeError,
    EOFError,
    LookupError,
    OSError,
    RuntimeError,
    TypeError,
    ValueError,
)


def read_file(path: str | Path, trust: bool = False, mapped: bool = False) -> dict[str, Any]:
    """Read a file of weights without running code from it; its content tells which kind it is.

    Args:
        path: A file of torch or safetensors, the index of a sharded one, a folder as transformers'
            ``save_pretrained`` writes it, or ``hf-hub:org/name``.
        trust: Read it with plain pickle, which runs whatever code the file contains.
        mapped: Leave the tensors in the file until they are used; of a run's ``.pth`` alone, whose
            checksums are then not compared.

    Returns:
        What the file holds; the metadata of a ``.safetensors`` file as ``meta``, and what configs
        lie beside it under :data:`moca.checkpoints.containers.CONFIG`.

    Raises:
        UserError: No such file, a damaged one (see :mod:`moca.checkpoints.integrity`), or one that
            holds more than tensors and the few harmless classes of the published checkpoints.
    """
    path = locate(path)
    if not path.is_file():
        if path.is_dir():
            refuse_folder(path)
            newest = run_checkpoints(path)
            raise UserError(
                f'{path}: no such checkpoint file, but a folder'
                + (f'; its newest is {newest[0]}.' if newest else ' without checkpoints of a run.')
            )
        raise UserError(f'{path}: no such checkpoint file. Check the path given as checkpoint.')
    if path.name.endswith('.index.json'):
        return _with_config(read_shards(path), path)
    try:
        if is_safetensors(path):
            content: Any = _read_safetensors(path)
        else:
            if not mapped:
                _verify(path)
            with torch.serialization.safe_globals(ALLOWED):
                content = torch.load(
                    path, map_location='cpu', weights_only=not trust, mmap=mapped or None
                )
    except pickle.UnpicklingError as error:
        refuse_others(path)
        # an unknown operand means no pickle at all; what would run code is named as a global
        if 'Unsupported operand' not in str(error) and re.search('Unsupported|GLOBAL', str(error)):
            raise UserError(
                f'{path}: refused, because reading it would run code ({_culprit(error)}). '
                'If you trust its source, say trust=True (--trust).'
            ) from error
        raise UserError(f'{path}: not a readable checkpoint ({_cause(error)}).') from error
    except _BROKEN as error:
        refuse_others(path)
        raise UserError(
            f'{path}: truncated or not a checkpoint ({_first_line(error)}). Fetch it again.'
        ) from error
    if isinstance(content, torch.nn.Module):
        raise UserError(
            f'{path}: holds a whole {type(content).__name__}, which is code. Save its state_dict() '
            'instead, and name that file.'
        )
    if not isinstance(content, dict):
        refuse_others(path)
        raise UserError(f'{path}: holds a {type(content).__name__}, not a dict of tensors.')
    verify_tensors(content, path)
    return _with_config(content, path)


def _verify(path: Path) -> None:
    try:
        verify_archive(path)
    except UserError:
        refuse_others(path)  # which say more than that they are no files of torch.save
        raise


def _with_config(content: dict[str, Any], path: Path) -> dict[str, Any]:
    config = config_beside(path)
    return {**content, CONFIG: config} if config else content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework='pt') as file:
        content: dict[str, Any] = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata = file.metadata() or {}
    verify_checksum(content, metadata, path)
    if metadata:  # whose checksum is of this file alone, and no note to carry on
        content['meta'] = {key: value for key, value in metadata.items() if key != CHECKSUM}
    return content


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return (lines or [type(error).__name__])[0][:300]


def _cause(error: Exception) -> str:
    """What the unpickler stumbled over, out of torch's page of advice."""
    named = re.search(r'WeightsUnpickler error:\s*(.+)', str(error))
    return named[1] if named else _first_line(error)


def _culprit(error: Exception) -> str:
    """The function or class that the file asks for, out of torch's page of advice."""
    named = re.search(r'GLOBAL ([\w.]+)', str(error))
    return named[1] if named else _first_line(error)


# Of the notes that an exported file carries in its `meta`; their presence tells such a file.
NOTES_VERSION = '1'

OWN_FAMILIES = ('pre-training run', 'downstream run')
"""What checkpoints of this suite are called in `moca.checkpoints.families.FAMILIES`."""


def run_config(content: Mapping[str, Any]) -> dict[str, Any]:
    """The config of the mmengine run that wrote a checkpoint; empty where there is none.

    Args:
        content: What :func:`moca.checkpoints.reading.read_file` returned, as for the others.
    """
    meta = content.get('meta')
    text = meta.get('cfg') if isinstance(meta, Mapping) else None
    return modernize(read_literals(text)) if isinstance(text, str) else {}


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
