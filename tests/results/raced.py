"""What runs of a race leave behind."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from mmengine.config import Config

from moca.results.race import Racer


def ran(folder: Path, first: float, last: float, accuracies: list[float], steps: int = 40) -> None:
    """Leave what a run of some steps leaves, with a k-NN accuracy in equal distances."""
    logs = folder / '20260101_000000' / 'vis_data'
    logs.mkdir(parents=True)
    rows = [dict(loss=first, time=0.5, step=10), dict(loss=last, time=0.7, step=steps)]
    between = steps / max(1, len(accuracies) - 1)
    rows += [
        {
            'knn/top1_k10': value,
            'knn/top1_k20': value + 1,
            'epoch': number,
            'step': round(number * between),
        }
        for number, value in enumerate(accuracies)
    ]
    (logs / 'scalars.json').write_text('\n'.join(map(json.dumps, rows)))
    leave_checkpoint(folder / 'epoch_2.pth', steps)


def leave_checkpoint(file: Path, steps: int = 0, cfg: Config | None = None) -> None:
    """Leave a checkpoint that says how long and of which config its run was."""
    file.parent.mkdir(parents=True, exist_ok=True)
    text = '' if cfg is None else cfg.pretty_text
    torch.save(dict(meta=dict(iter=steps, cfg=text), state_dict={}), file)


def racer(folder: Path, name: str, watched: bool = True) -> Racer:
    return Racer(name, folder / name, (), folder / name / 'epoch_2.pth', 1, watched)
