"""Replay a recording of released evaluation scripts: ``python -m tests.replay_eval FILE.json``.

Tensors are in ``FILE.safetensors`` beside it. Every size, k, temperature, C, feature and number of
classes, heads, steps and images is the recording's. Exits with status 1 if an error is beyond its
limit, and with 2 if there is nothing to replay.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Mapping
from logging import ERROR
from pathlib import Path
from typing import Any

import torch
from mmengine.logging import MMLogger
from rich.console import Console
from rich.table import Table
from safetensors.torch import load_file
from torch import Tensor

from moca.errors import UserError
from tests import replay_eval_features, replay_eval_finetune, replay_eval_linear
from tests.replay_eval_linear import Check

Part = Callable[[Mapping[str, Any], Mapping[str, Tensor]], list[Check]]

PARTS: dict[str, Part] = {
    'pixels': replay_eval_features.replay_pixels,
    'features': replay_eval_features.replay_features,
    'k-NN': replay_eval_features.replay_knn,
    'low-shot': replay_eval_features.replay_lowshot,
    'linear': replay_eval_linear.replay,
    'fine-tuning': replay_eval_finetune.replay,
}
"""What is replayed: functions of the JSON and the tensors."""


def run_part(part: Part, settings: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> list[Check]:
    """The checks of a part; a crash is one that fails and does not hide the other parts."""
    try:
        return part(settings, tensors)
    except (UserError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        return [(f'ran to its end: {type(error).__name__}: {error}', float('nan'), 0.0)]


def failed(check: Check) -> bool:
    """Whether an error is beyond its limit; one that is no number is."""
    return not check[1] <= check[2]


def main(arguments: list[str] | None = None) -> int:
    """Replay a recording from the command line."""
    parser = argparse.ArgumentParser(
        prog='tests.replay_eval', description=(__doc__ or '').split('\n\n')[0]
    )
    parser.add_argument('recording', type=Path, help='the JSON of a recording')
    parser.add_argument('--parts', nargs='+', choices=PARTS, default=list(PARTS))
    args = parser.parse_args(arguments)
    tensors_file = args.recording.with_suffix('.safetensors')
    for path in (args.recording, tensors_file):
        if not path.is_file():
            print(f'error: {path}: no such file. Name the JSON of a recording.', file=sys.stderr)
            return 2
    MMLogger.get_current_instance().setLevel(ERROR)
    torch.set_num_threads(1)  # sums in the order of the recording
    settings, tensors = json.loads(args.recording.read_text()), load_file(tensors_file)
    table = Table('part', 'checks', 'beyond', 'nearest to its limit', 'reached', 'limit')
    wrong: list[Check] = []
    for name in args.parts:
        checks = run_part(PARTS[name], settings, tensors)
        beyond = [check for check in checks if failed(check)]
        wrong += beyond
        worst = max(beyond or checks, key=lambda check: check[1] / (check[2] or 1e-30))
        row = (str(len(checks)), str(len(beyond)), worst[0], f'{worst[1]:.1e}', f'{worst[2]:g}')
        table.add_row(name, *row)
    Console(width=None if sys.stdout.isatty() else 140).print(table, markup=False)
    for what, error, limit in wrong:
        print(f'FAILED {what}: {error:.3g}, limit {limit:g}')
    print('all as recorded' if not wrong else f'{len(wrong)} beyond their limits')
    return 1 if wrong else 0


if __name__ == '__main__':
    sys.exit(main())
