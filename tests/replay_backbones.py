"""Replay recordings of published backbones: ``python -m tests.replay_backbones DIR``.

A recording is a folder with a checkpoint as some library writes it, ``about.json`` (sizes, heads,
mean and std, tolerance) and ``io.safetensors`` (inputs, and what the library makes of them in fp32
on a CPU). Every one below DIR goes through the reader and the ViT that all tools use. Exits with
status 1 if one is refused or beyond its tolerance.
"""

from __future__ import annotations

import argparse
import json
import math
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from moca.backbone import PlainViT
from moca.backbone.arch import ArchSpec
from moca.checkpoints import CheckpointInfo, inspect_checkpoint, load_checkpoint
from moca.errors import UserError

KINDS = ('last', 'prefix', 'block', 'block prefix')
"""What is compared: patch and prefix tokens after the final norm, and of raw blocks."""


@dataclass
class Result:
    """What became of one recording.

    Attributes:
        family: Its name.
        tolerance: Limit of every error.
        errors: Largest ``max|ours - reference| / max|reference|`` of each kind.
        normalized: Whether the reader's mean and std are the recorded ones; None if it was refused.
        problems: Why it failed, beside errors that are too large.
    """

    family: str
    tolerance: float = 1e-5
    errors: dict[str, float] = field(default_factory=dict)
    normalized: bool | None = None
    problems: list[str] = field(default_factory=list)

    @property
    def passed(self) -> bool:
        """Whether something was compared and all of it is as recorded."""
        within = all(error <= self.tolerance for error in self.errors.values())  # NaN is not
        return bool(self.errors) and within and self.normalized is True and not self.problems

    def add(self, kind: str, error: float) -> None:
        """Keep an error if it is the largest of its kind so far; NaN counts as largest."""
        if not error <= self.errors.get(kind, -1.0):
            self.errors[kind] = error


def replay(folder: Path) -> Result:
    """Replay the recording in a folder; what the reader refuses is a failure with its reason."""
    about = json.loads((folder / 'about.json').read_text())
    result = Result(about.get('family', folder.name), about.get('tolerance', 1e-5))
    checkpoint = folder / about['checkpoint']
    try:
        model, info = read(checkpoint, about)
    except UserError as error:
        result.problems.append(f'refused: {error}')
        return result
    except Exception as error:  # one crash is not to hide the other recordings
        result.problems.append(f'crashed: {type(error).__name__}: {error}')
        return result
    result.normalized = _close(info.mean, about['mean']) and _close(info.std, about['std'])
    if not result.normalized:
        said = f'mean {info.mean} and std {info.std}'
        result.problems.append(f'{said}; recorded {about["mean"]} and {about["std"]}')
    tensors = load_file(folder / 'io.safetensors')
    for name, images in tensors.items():
        if name.startswith('input.'):
            start = f'output.{name.removeprefix("input.")}.'
            wanted = {k.removeprefix(start): v for k, v in tensors.items() if k.startswith(start)}
            compare(result, model, images, wanted)
    for extra in about.get('extra_files') or {}:
        _try_damaged(result, folder / extra, about, next(iter(tensors.items())))
    return result


def read(checkpoint: Path, about: Mapping[str, Any]) -> tuple[PlainViT, CheckpointInfo]:
    """The backbone of a checkpoint, in eval mode, and what the reader says of the file.

    Raises:
        UserError: The reader refuses it, or its architecture does not fit.
    """
    info = inspect_checkpoint(checkpoint)
    arch = architecture(info, about)
    size = None if not isinstance(arch, str) and 'img_size' in arch else about['image_size']
    block = about['intermediate_block']
    model = PlainViT(arch, img_size=size, out_indices=(block, -1), final_norm=False)
    info = load_checkpoint(model, checkpoint)
    return model.eval(), info


def architecture(info: CheckpointInfo, about: Mapping[str, Any]) -> ArchSpec:
    """What the reader says, and from ``about.json`` what no file of its kind tells.

    That is the number of heads of a bare ``.pth``. A reader that says nothing gets a ViT of the
    recorded sizes, as a user would give it.
    """
    if info.arch is not None:
        bare = not isinstance(info.arch, str) and Path(info.path).suffix != '.safetensors'
        return {**info.arch, 'num_heads': about['heads']} if bare else info.arch  # type: ignore[dict-item]
    arch: dict[str, Any] = dict(
        patch_size=about['patch_size'],
        embed_dim=about['width'],
        depth=about['blocks'],
        num_heads=about['heads'],
        norm_eps=about['layer_norm_eps'],
    )
    if info.num_registers:
        arch |= dict(reg_tokens=info.num_registers, no_embed_class=True)
    if info.layer_scale:
        arch['init_values'] = 1.0
    return arch


@torch.no_grad()
def compare(result: Result, model: PlainViT, images: Tensor, wanted: Mapping[str, Tensor]) -> None:
    """Compare what a backbone makes of images with the recorded outputs.

    Args:
        result: Takes the errors.
        model: With the raw intermediate and last block as its ``out_indices``.
        images: ``[B, 3, H, W]``, normalized.
        wanted: ``[B, L, C]`` by the names of the recording: ``last``, ``prefix``, ``blockN``,
            ``blockN_prefix``.
    """
    found = outputs(model, images)
    if not wanted:
        result.problems.append('an input without outputs')
    for name, reference in wanted.items():
        kind = name if not name.startswith('block') else 'block'
        kind += ' prefix' if kind == 'block' and name.endswith('_prefix') else ''
        ours = found.get(name)
        if ours is None or ours.shape != reference.shape:
            shape = None if ours is None else list(ours.shape)
            result.problems.append(f'{name}: {shape} for {list(reference.shape)}')
        else:
            scale = float(reference.abs().max()) or 1.0
            result.add(kind, float((ours - reference).abs().max()) / scale)


@torch.no_grad()
def outputs(model: PlainViT, images: Tensor) -> dict[str, Tensor]:
    """What a recording may hold of some images, by its names; the maps of `PlainViT.forward`."""
    raw: dict[int, Tensor] = {}
    handles = [
        model.blocks[index].register_forward_hook(
            lambda _, __, out, index=index: raw.__setitem__(index, out)
        )
        for index in model.out_indices
    ]
    try:
        maps = model(images)
    finally:
        for handle in handles:
            handle.remove()
    tokens, skip = model.tokens(images), model.num_prefix_tokens
    found = {'last': tokens.patches, 'prefix': tokens.prefix}
    for index, patches in zip(model.out_indices, maps, strict=True):
        found[f'block{index}'] = patches.flatten(2).transpose(1, 2)
        found[f'block{index}_prefix'] = raw[index][:, :skip]
    return found


def _try_damaged(
    result: Result, path: Path, about: Mapping[str, Any], sample: tuple[str, Tensor]
) -> None:
    """A file that must be refused, or else give finite features."""
    try:
        model, _ = read(path, about)
    except UserError:
        return
    images = sample[1] if sample[0].startswith('input.') else torch.zeros(1, 3, 64, 64)
    with torch.no_grad():
        if not all(torch.isfinite(value).all() for value in outputs(model, images).values()):
            result.problems.append(f'{path.name}: loaded, and its features are not finite')


def _close(ours: Any, recorded: Any) -> bool:
    pairs = zip(ours, recorded, strict=True)
    return all(math.isclose(a, b, rel_tol=0, abs_tol=1e-6) for a, b in pairs)


def table_of(results: list[Result]) -> Table:
    """One row a family: the worst error of each kind, mean and std, the verdict."""
    table = Table('family', *KINDS, 'mean/std', 'verdict')
    for result in results:
        cells = [f'{result.errors[kind]:.1e}' if kind in result.errors else '-' for kind in KINDS]
        normalized = {True: 'ok', False: 'WRONG', None: '-'}[result.normalized]
        verdict = 'ok' if result.passed else 'FAILED'
        table.add_row(result.family, *cells, normalized, verdict)
    return table


def main(arguments: list[str] | None = None) -> int:
    """Replay all recordings below a folder from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or '').split('\n\n')[0])
    parser.add_argument('recordings', type=Path, help='a folder; each about.json below it is one')
    args = parser.parse_args(arguments)
    folders = sorted(path.parent for path in args.recordings.rglob('about.json'))
    if not folders:
        print(f'error: {args.recordings}: no about.json below it.', file=sys.stderr)
        return 2
    MMLogger.get_current_instance().setLevel('WARNING')
    results = [replay(folder) for folder in folders]
    console = Console()
    console.print(table_of(results), markup=False)
    for result in results:
        for problem in result.problems:
            print(f'{result.family}: {problem}')
    failed = sum(not result.passed for result in results)
    print(f'{len(results) - failed} of {len(results)} as recorded')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
