"""Take a finished run up again: its model with its weights, and its validation pictures."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from numpy.typing import NDArray

from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from moca.evaluation.records import Run, read_runs
from moca.transfer.evaluate import load_run


@dataclass(frozen=True)
class FinishedRun:
    """A run to draw pictures of.

    Attributes:
        run: its record.
        model: in eval mode.
        dataset: its validation set.
    """

    run: Run
    model: Any
    dataset: Any

    @property
    def label(self) -> str:
        """Name for titles: the checkpoint that the run started from."""
        return self.run.checkpoint


def load_finished(folder: Path, task: str) -> FinishedRun:
    """Load a finished run of `task` ('segmentation' or 'detection') from its work dir.

    Raises:
        UserError: if the folder holds no finished run of that task, or not its config or weights.
    """
    runs, omissions = read_runs([folder])
    here = [run for run in runs if run.folder.resolve() == folder.resolve()]
    if not here:
        why = f' {omissions[0].reason}.' if omissions else ''
        raise UserError(f'{folder}: no finished run.{why} Name the work dir of one.')
    configs = sorted(folder.glob('*.py'))
    checkpoint = latest_checkpoint(folder)
    if len(configs) != 1 or checkpoint is None:
        raise UserError(f'{folder}: needs one config and a checkpoint, as tools/train.py leaves.')
    cfg = Config.fromfile(str(configs[0]))
    if cfg.protocol.task != task:
        raise UserError(f'{folder}: a run of {cfg.protocol.task}, not of {task}.')
    init_default_scope(cfg.get('default_scope', 'mmengine'))
    cfg.model.backbone.init_cfg = None  # all weights come from the run
    model = MODELS.build(cfg.model)
    load_run(model, checkpoint)
    return FinishedRun(here[0], model.eval(), DATASETS.build(cfg.val_dataloader.dataset))


def choose(count: int, shown: int) -> list[int]:
    """Indices of `shown` pictures spread evenly over `count`."""
    return np.linspace(0, count - 1, min(shown, count)).round().astype(int).tolist()


@torch.no_grad()
def predict(finished: FinishedRun, indices: Iterable[int]) -> Iterator[tuple[Any, Any]]:
    """Yield the input (a data set's sample) and the prediction (a data sample) of some pictures."""
    for index in indices:
        sample = finished.dataset[index]
        yield sample, finished.model.test_step(pseudo_collate([sample]))[0]


def read_picture(sample: Any) -> NDArray[np.uint8]:
    """The picture of a sample as it lies on disk, RGB `[H, W, 3]`."""
    path = sample['data_samples'].metainfo['img_path']
    image = cv2.imread(path)
    if image is None:
        raise UserError(f'{path}: cannot be read as a picture.')
    return np.ascontiguousarray(image[..., ::-1])
