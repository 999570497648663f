"""Write an encoder as a folder that ``transformers.AutoModel.from_pretrained`` loads."""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes

from moca.backbone.arch import ArchSpec
from moca.backbone.rope import ROUNDED, rounded_periods
from moca.backbone.vit import PlainViT
from moca.checkpoints.changes import changed
from moca.checkpoints.containers import locate
from moca.checkpoints.export import choose_encoder, export_notes, write_file
from moca.checkpoints.info import CheckpointInfo
from moca.checkpoints.integrity import CHECKSUM, checksum
from moca.checkpoints.loading import inspect_checkpoint, load_checkpoint
from moca.checkpoints.reading import read_file, run_config
from moca.checkpoints.to_transformers import CLASSES, RESAMPLED_BY, as_transformers
from moca.errors import UserError

_DIGESTS = ('sha256 of the checkpoint', 'sha256 of model.safetensors')


def export_folder(
    source: str | Path,
    target: str | Path,
    *,
    branch: str | None = None,
    arch: ArchSpec | None = None,
    trust: bool = False,
    force: bool = False,
    license: str | None = None,
    **changes: Any,
) -> str:
    """Write ``config.json``, ``model.safetensors``, ``preprocessor_config.json``, ``README.md``.

    The folder appears whole or not at all.

    Args:
        source: The checkpoint file.
        target: The folder.
        branch: Which of its encoders; None takes the family's default.
        arch: The architecture; None takes the one that the file says or its tensors fit.
        trust: Read the source with plain pickle.
        force: Replace a folder that was exported before.
        license: Of the weights, as the Hub abbreviates it, such as ``apache-2.0``.
        changes: ``patch``, ``mean`` and ``std`` of :func:`moca.checkpoints.changes.changed`.

    Returns:
        What was written where, and in what transformers will differ.

    Raises:
        UserError: The source cannot be read, nothing tells its architecture, transformers has no
            such model, the folder exists, or the license is no word.
    """
    target = Path(target)
    if license is not None and not re.fullmatch(r'[a-z0-9][a-z0-9.-]*', license):
        raise UserError(
            f'--license {license}: give a word of the Hub, such as apache-2.0 or other.'
        )
    check_folder(target, force)
    content = read_file(source, trust)
    encoder = changed(choose_encoder(content, source, branch), source, **changes)
    backbone = (run_config(content).get('model') or {}).get('backbone') or {}
    if backbone.get('window_size') is not None:
        raise UserError(
            f'{source}: its run had attention windows (window_size={backbone["window_size"]}), '
            'which no ViT of transformers has. Export it --to timm or --to safetensors.'
        )
    model, info = _loaded(source, branch, arch, trust, changes)
    config, state = as_transformers(model)
    remarks = differences(model, config)
    notes = {**export_notes(content, source, encoder), **_data_of(content)}
    weights = safetensors_bytes(state, metadata={'format': 'pt', CHECKSUM: checksum(state)})
    notes['sha256 of model.safetensors'] = hashlib.sha256(weights).hexdigest()
    file = locate(source)
    if file.is_file():
        with file.open('rb') as opened:
            notes['sha256 of the checkpoint'] = hashlib.file_digest(opened, 'sha256').hexdigest()
    if license is not None:
        notes['license'] = license
    files = {
        'config.json': _json(config),
        'preprocessor_config.json': _json(preprocessing(info, config['image_size'])),
        'model.safetensors': weights,
        'README.md': model_card(info, config, notes, remarks).encode(),
    }
    write_folder(target, files)
    name = CLASSES[config['model_type']]
    said = [] if license else ['Its card names no license: give --license before you upload it.']
    return ' '.join([f"{target}: {info}, from {source}, as transformers' {name}.", *remarks, *said])


def _loaded(
    source: str | Path,
    branch: str | None,
    arch: ArchSpec | None,
    trust: bool,
    changes: Mapping[str, Any],
) -> tuple[PlainViT, CheckpointInfo]:
    info = inspect_checkpoint(source, branch, trust, **changes)
    arch = arch or info.arch or next(iter(info.fitting), None)
    if arch is None:
        raise UserError(f'{source}: nothing says what architecture {info} is. Give it with --arch.')
    size = None
    if info.num_positions:  # those of the file, not resampled
        with torch.device('meta'):
            paper = PlainViT(arch)
        prefix = 0 if paper.no_embed_class else paper.num_prefix_tokens
        size = math.isqrt(max(info.num_positions - prefix, 1)) * info.patch_size
    model = PlainViT(arch, img_size=size)
    return model, load_checkpoint(model, source, branch, trust=trust, **changes)


def differences(model: PlainViT, config: Mapping[str, Any]) -> list[str]:
    """Sentences on what transformers computes otherwise from the same weights."""
    remarks = []
    kind = config['model_type']
    if (
        model.rope is not None
        and model.rope.periods is not None
        and rounded_periods(model.rope.periods, model.rope.base)
    ):
        remarks.append(ROUNDED.format('transformers'))
    theirs = RESAMPLED_BY.get(kind)
    if theirs is not None and model.interpolation not in (None, theirs):
        remarks.append(
            f'Positions are resampled by {theirs} in transformers and by {model.interpolation} '
            f'here: features differ at other sizes than {config["image_size"]} px.'
        )
    return remarks


def preprocessing(info: CheckpointInfo, size: int) -> dict[str, Any]:
    """The ``preprocessor_config.json``: of the trained size, with the mean and std."""
    return {
        'image_processor_type': 'ViTImageProcessor',
        'do_resize': True,
        'size': {'height': size, 'width': size},
        'resample': 3,  # PIL's number of bicubic
        'do_rescale': True,
        'rescale_factor': 1 / 255,
        'do_normalize': True,
        'image_mean': list(info.mean),
        'image_std': list(info.std),
    }


def model_card(
    info: CheckpointInfo,
    config: Mapping[str, Any],
    notes: Mapping[str, str],
    remarks: list[str],
) -> str:
    """The README of the folder: what the encoder is, how to load it and where it came from."""
    known = {
        'method': notes.get('method', 'not said in the file'),
        'checkpoint': notes['source'],
        'family': notes.get('family', info.family),
        'encoder': notes.get('branch', info.branch),
        'trained on': notes.get('data', 'not said in the file'),
        'trained for': _age(notes),
        'backbone': f'{info.embed_dim} channels, {info.depth} blocks, '
        f'{config["num_attention_heads"]} heads, patches of {info.patch_size} px',
        'mean': ' '.join(f'{value:g}' for value in info.mean),
        'std': ' '.join(f'{value:g}' for value in info.std),
        'mean and std according to': info.normalized_by or "nobody: they are ImageNet's",
    }
    known |= {name: notes[name] for name in _DIGESTS if name in notes}
    known['license'] = notes.get('license', 'not said; it is up to whose weights these are')
    rows = '\n'.join(f'| {name} | {_plain(value)} |' for name, value in known.items())
    license = f'license: {notes["license"]}\n' if 'license' in notes else ''
    pooler = ', add_pooling_layer=False' * (config['model_type'] == 'vit')
    return f"""---
library_name: transformers
pipeline_tag: image-feature-extraction
{license}tags:
- vision
- self-supervised
---

# {_plain(notes['source'])}

A vision transformer without head, for `{CLASSES[config['model_type']]}` of transformers.

| | |
|---|---|
{rows}

```python
from transformers import AutoImageProcessor, AutoModel

name = '.'  # this folder, or ORG/NAME on the Hub
processor = AutoImageProcessor.from_pretrained(name)
model = AutoModel.from_pretrained(name{pooler})
tokens = model(**processor(image, return_tensors='pt')).last_hidden_state
```

`last_hidden_state` holds the class token, then registers if there are any, then the patches row by
row, after the final norm. Images must be whole patches. The tools of moca take the folder for a
checkpoint, and `hf-hub:ORG/NAME`.

{' '.join([*remarks, 'Written by `tools/checkpoint.py export --to transformers` of moca.'])}
"""


def _plain(text: str) -> str:
    """A text that is neither Markdown nor HTML, nor ends a cell of a table."""
    flat = ' '.join(text.split())
    return re.sub(r'([\\`*_{}\[\]<>|#])', r'\\\1', flat)


def _age(notes: Mapping[str, str]) -> str:
    said = [f'{notes[key]} {key}s' for key in ('epoch', 'step') if key in notes]
    return ', '.join(said) or 'not said in the file'


def _data_of(content: Mapping[str, Any]) -> dict[str, str]:
    """The last two folders of a run's data, which are enough to tell and tell nothing else."""
    dataset = (run_config(content).get('train_dataloader') or {}).get('dataset')
    root = dataset.get('data_root') if isinstance(dataset, dict) else None
    return {'data': '/'.join(Path(root).parts[-2:])} if isinstance(root, str) and root else {}


def check_folder(target: Path, force: bool) -> None:
    """Verify, before anything is read, that a folder may be written.

    Raises:
        UserError: It exists (and no ``force``), or is anything but a folder exported before.
    """
    if not target.exists():
        return
    if not target.is_dir() or not (target / 'config.json').is_file():
        raise UserError(f'{target}: is no exported model. Give the name of another folder.')
    if not force:
        raise UserError(f'{target}: exists already. Give another name, or --force.')


def write_folder(target: Path, files: Mapping[str, bytes]) -> None:
    """Write a folder of files that appears whole or not at all, in the place of an old one.

    Raises:
        UserError: It cannot be written.
    """
    target = Path(os.path.abspath(target))
    partial = target.with_name(f'.{target.name}.{os.getpid()}.partial')
    old = target.with_name(f'.{target.name}.{os.getpid()}.old')
    try:
        for name, content in files.items():
            write_file(partial / name, content)
        if target.exists():
            os.replace(target, old)
        os.replace(partial, target)
    except OSError as error:
        raise UserError(f'{target}: cannot be written ({error}). Give another name.') from error
    finally:
        if old.exists() and not target.exists():
            os.replace(old, target)
        for folder in (partial, old):
            shutil.rmtree(folder, ignore_errors=True)


def _json(content: Mapping[str, Any]) -> bytes:
    return (json.dumps(content, indent=2) + '\n').encode()
