"""Write one encoder of a checkpoint alone, and say in the file where it came from."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save as safetensors_bytes
from torch import Tensor

from moca.backbone.rope import ROUNDED, rounded_periods
from moca.checkpoints.encoder import Encoder, interpolation_of, timm_names
from moca.checkpoints.finding import find_encoder
from moca.checkpoints.integrity import CHECKSUM, checksum
from moca.checkpoints.noted import notes_of
from moca.checkpoints.reading import NOTES_VERSION, run_notes
from moca.errors import UserError
from moca.records.whole_files import write_atomically


def choose_encoder(content: Mapping[str, Any], source: str | Path, branch: str | None) -> Encoder:
    """The encoder of a branch, which is not called by a name that its file does not give it.

    Raises:
        UserError: No ViT in the file, not this branch, or one encoder of unknown branch.
    """
    encoder = find_encoder(content, source, branch)
    known = encoder.notes.get('branch', encoder.branch)
    if branch is not None and branch != known:
        raise UserError(
            f'{source}: holds a single encoder, {known!r}, of a {encoder.family} checkpoint; '
            f'nothing says that it is the {branch}. Leave --branch out.'
        )
    return encoder


def write_encoder(encoder: Encoder, notes: dict[str, str], target: str | Path) -> str:
    """Write an encoder under timm's names, in the format that the target's suffix names.

    Returns:
        Which class of timm reads it, and what that computes otherwise.

    Raises:
        UserError: No class of timm has its rotary positions.
    """
    state, said = timm_names(encoder), 'timm reads it as a VisionTransformer.'
    rope = encoder.built.get('rope') or {}
    if rope.get('kind', 'dinov3') != 'dinov3':
        raise UserError(
            f'{encoder.family}: rotary positions of that kind are not written for timm. Use the '
            'original file.'
        )
    if 'rope.periods' in state:
        state, said = as_eva(state)
    state = {key: value.contiguous().clone() for key, value in state.items()}
    if Path(target).suffix == '.safetensors':
        write_file(target, safetensors_bytes(state, metadata={**notes, CHECKSUM: checksum(state)}))
    else:
        write_file(target, torch_bytes({'model': state, 'meta': notes}))
    return said


def as_eva(state: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], str]:
    """A ViT with DINOv3's rotary positions under the names of timm's ``Eva``, and what to say.

    timm's names are ``vit_SIZE_patch16_dinov3``, and ``..._dinov3_qkvb`` with biases of queries and
    values; timm computes the periods from base 100 and has no bias of keys.

    Args:
        state: Under the names of `PlainViT`.

    Raises:
        UserError: The periods are of another base, or keys have a bias.
    """
    base = 100.0
    said = [ROUNDED.format('timm')] if rounded_periods(state['rope.periods'], base) else []
    eva: dict[str, Tensor] = {}
    for key, value in state.items():
        name = re.sub(r'\bls([12])\.gamma$', r'gamma_\1', key)
        if key.endswith('attn.qkv.bias'):
            query, keys, values = value.chunk(3)
            if keys.any():
                raise UserError(
                    f'{key}: keys have a bias, and no ViT with rotary positions of timm has. '
                    'Export it --to transformers.'
                )
            block = key.removesuffix('qkv.bias')
            eva |= {f'{block}q_bias': query, f'{block}v_bias': values}
        elif key != 'rope.periods':
            eva[name] = value
    form = 'vit_SIZE_patch16_dinov3' + '_qkvb' * ('blocks.0.attn.q_bias' in eva)
    return eva, ' '.join([f'timm reads it as an Eva, such as {form}.', *said])


def check_target(
    target: str | Path, source: str | Path, suffixes: tuple[str, ...], force: bool
) -> None:
    """Verify, before anything is read, that a file may be written.

    Raises:
        UserError: The suffix is another one, the file exists (and no ``force``), or it is the
            source itself.
    """
    target = Path(target)
    if target.suffix not in suffixes:
        raise UserError(f'{target}: choose a name that ends in {" or ".join(suffixes)}.')
    if target.is_dir():
        raise UserError(f'{target}: is a folder. Give the name of the file to write.')
    if not target.exists():
        return
    if Path(source).exists() and target.samefile(source):
        raise UserError(f'{target}: is the checkpoint to export. Give another name to write to.')
    if not force:
        raise UserError(f'{target}: exists already. Give another name, or --force.')


def write_file(target: str | Path, content: bytes) -> None:
    """Write atomically; a folder that cannot be written to is a `UserError`."""
    try:
        write_atomically(target, content)
    except OSError as error:
        raise UserError(f'{target}: cannot be written ({error}). Give another name.') from error


def torch_bytes(content: Mapping[str, Any]) -> bytes:
    """What ``torch.save`` would write."""
    buffer = io.BytesIO()
    torch.save(dict(content), buffer)
    return buffer.getvalue()


def export_notes(
    content: Mapping[str, Any], source: str | Path, encoder: Encoder | None
) -> dict[str, str]:
    """What an exported file says of itself, as far as the source tells.

    Args:
        content: What :func:`moca.checkpoints.reading.read_file` returned.
        source: The file.
        encoder: The one that is written; None where all of the source is.

    Returns:
        ``notes_version``, ``source`` (folder and file), ``family``, ``branch``, ``method``,
        ``arch``, ``step``, ``epoch``; of an encoder what :func:`.noted.noted_settings` reads. A
        file that was itself exported passes its own notes on.
    """
    path = Path(source).absolute()
    notes = {'source': f'{path.parent.name}/{path.name}', **run_notes(content)}
    if encoder is not None:
        eps = encoder.built.get('norm_eps')
        said = notes_of(*(encoder.statistics, eps, interpolation_of(encoder, source)), encoder.grid)
        notes |= {'family': encoder.family, 'branch': encoder.branch, **encoder.notes, **said}
    return {**notes, 'notes_version': NOTES_VERSION}
