"""Look into a ViT checkpoint of any family, or write it as others' tools read it."""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from moca.command_line import EXPORT_FORMATS, add_change_arguments, add_verbose

if TYPE_CHECKING:
    from moca.checkpoints.loading import CheckpointInfo


def parse_args(arguments: list[str] | None = None) -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(dest='command', required=True)
    inspect = commands.add_parser('inspect', help='say what a file holds')
    write = commands.add_parser(
        'export', help="write one encoder under timm's names, or all of a run as MOCA's authors do"
    )
    for command in (inspect, write):
        command.add_argument('checkpoint', help='a .pth or .safetensors file, or a work dir')
        command.add_argument(
            '--branch', choices=('teacher', 'student'), help='which encoder [teacher]'
        )
        command.add_argument(
            '--trust', action='store_true', help='read with plain pickle, which can run code'
        )
    inspect.add_argument(
        '--prefix', help='what stands before the keys of the encoder, in a file of several'
    )
    inspect.add_argument('--arch', help='also verify that it fits this architecture')
    inspect.add_argument(
        '--image',
        type=Path,
        help='also show the first numbers of its features of this image, at 224 x 224 pixels, '
        'beside those that were published',
    )
    for command in (inspect, write):
        add_change_arguments(command)
        add_verbose(command)
    write.add_argument(
        'target',
        nargs='?',
        help='file or folder to write [beside the checkpoint and named after it]',
    )
    write.add_argument(
        '--to',
        choices=EXPORT_FORMATS,
        help='timm: one encoder, .pth; safetensors: the same [default]; moca: the released format, '
        'which is the whole run, or with --branch one encoder; transformers: one encoder, a folder '
        'that AutoModel.from_pretrained reads',
    )
    write.add_argument(
        '--arch', help='for transformers: the architecture, where the file does not say it'
    )
    write.add_argument(
        '--license', metavar='ID', help="for transformers' model card, such as apache-2.0"
    )
    write.add_argument('--force', action='store_true', help='write over what exists')
    args, rest = parser.parse_known_args(arguments)
    # argparse takes no TARGET behind the options, since it may be left out
    behind = args.command == 'export' and args.target is None and len(rest) == 1
    if behind and not rest[0].startswith('-'):
        args.target, rest = rest[0], []
    if rest:
        commands.choices[args.command].error(f'unrecognized arguments: {" ".join(rest)}')
    return args


def architecture(info: CheckpointInfo) -> str:
    """What the run says, or else what the tensors fit: a name for ``--arch``, or dimensions."""
    if info.fitting and not info.arch_from_run:
        return f'{" or ".join(info.fitting)} (by its tensors)'
    who = 'says the run' if info.arch_from_run else 'by its tensors; no name fits'
    if isinstance(info.arch, str):
        return f'{info.arch} ({who})'
    if info.arch is not None:
        dimensions = ', '.join(f'{key}={value!r}' for key, value in info.arch.items())
        return f'dict({dimensions}) ({who})'
    return 'no name fits, and nothing tells the number of heads'


def by_kind(keys: Sequence[str]) -> str:
    """Names of tensors by their first part, with numbers."""
    kinds = Counter(key.split('.')[0] for key in keys)
    shown = [f'{kind} ({count})' if count > 1 else kind for kind, count in kinds.most_common(8)]
    return ', '.join(shown) + (' ...' if len(kinds) > 8 else '')


def rows(info: CheckpointInfo) -> dict[str, str]:
    """What ``inspect`` prints."""
    from moca.checkpoints.info import normalization_text

    return {
        'family': info.family,
        'encoders': ', '.join(info.branches),
        'shown': info.branch,
        'architecture': architecture(info),
        'width': str(info.embed_dim),
        'blocks': str(info.depth),
        'patch': f'{info.patch_size} px'
        + (f', resampled from {info.resampled_from}' if info.resampled_from else ''),
        'tokens': info.tokens,
        'positions': info.positions,
        'LayerScale': 'yes' if info.layer_scale else 'no',
        'normalization': normalization_text(info),
        **({'positions resampled': info.interpolation} if info.num_positions else {}),
        'parameters': f'{info.num_parameters / 1e6:.2f} M',
        'not loaded': by_kind(info.ignored) or 'nothing',
        **how_to_check(info),
        **({'cannot be loaded': info.refusal} if info.refusal else {}),
        **{f'note: {name}': note for name, note in info.notes.items()},
    }


def how_to_check(info: CheckpointInfo) -> dict[str, str]:
    """The published numbers that a file of this family and size has to give, if there are any."""
    from moca.evaluation.published_features import IMAGE, published_numbers  # torchvision is slow

    found = published_numbers(info)
    if found is None:
        return {}
    name, numbers = found
    shown = _numbers(numbers.class_token)
    return {'to check': f'--image {IMAGE} (of COCO): the class token of {name} is {shown}'}


def _numbers(values: Sequence[float]) -> str:
    return ' '.join(f'{value:.4f}' for value in values)


def check_numbers(args: argparse.Namespace, source: Path, info: CheckpointInfo) -> list[str]:
    """What an encoder makes of ``--image``, and how far that is from what was published."""
    from moca.checkpoints.changes import changes_of
    from moca.evaluation.backbones import load_backbones
    from moca.evaluation.published_features import (
        IMAGE,
        TOLERANCE,
        first_numbers,
        largest_difference,
        published_numbers,
    )

    archs = [args.arch] if args.arch else []
    how = dict(branch=args.branch, trust=args.trust, prefix=args.prefix, **changes_of(args))
    (backbone,) = load_backbones([str(source)], archs, **how)
    numbers = first_numbers(backbone.model, args.image)
    lines = [f'class token: {_numbers(numbers.class_token)}'] if numbers.class_token else []
    lines.append(f'upper left patch: {_numbers(numbers.patch)}')
    known = published_numbers(info)
    if known is None or args.image.name != IMAGE or changes_of(args):
        return lines
    name, published = known
    difference = largest_difference(numbers, published)
    says = (
        'as published'
        if difference <= TOLERANCE
        else (
            'another training of the same shape (SAT-493M, EUPE, LingBot-Vision), or another image'
        )
    )
    return [*lines, f'{name}: the largest difference is {difference:.1e}: {says}']


def main(arguments: list[str] | None = None) -> int:
    """Inspect or export, as the command line says."""
    args = parse_args(arguments)
    from moca.engine.cli import main_guard  # takes seconds, which --help need not
    from moca.engine.terminal import quietly

    return main_guard(quietly(run))(args)


def run(args: argparse.Namespace) -> None:
    """Do what the arguments ask for."""
    import moca.pretrain  # noqa: F401  (registers the components)
    from moca.checkpoints.changes import changes_of
    from moca.checkpoints.containers import file_of_run
    from moca.checkpoints.loading import AUTO, check_checkpoint, inspect_checkpoint
    from moca.pretrain.moca.export import export

    source = Path(file_of_run(args.checkpoint))
    console = Console()
    if args.command == 'export':
        done = export(
            args.checkpoint,
            source,
            args.target,
            branch=args.branch,
            to=args.to,
            arch=None if args.arch == AUTO else args.arch,
            trust=args.trust,
            force=args.force,
            license=args.license,
            **changes_of(args),
        )
        console.print(done, soft_wrap=True, markup=False)
        return
    changes = changes_of(args)
    info = inspect_checkpoint(source, args.branch, args.trust, args.prefix, **changes)
    console.print(str(source), soft_wrap=True, markup=False)
    table = Table(show_header=False)
    for name, value in rows(info).items():
        table.add_row(name, value)
    console.print(table)
    if args.arch and args.arch != AUTO:
        how = dict(trust=args.trust, prefix=args.prefix, **changes)
        check_checkpoint(source, args.arch, args.branch, **how)
        console.print(f'fits {args.arch}')
    if args.image:
        for line in check_numbers(args, source, info):
            console.print(line, soft_wrap=True, markup=False)


if __name__ == '__main__':
    sys.exit(main())
