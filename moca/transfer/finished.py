"""Take a finished run up again: its model with its weights, its validation images, or others."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.device import get_device
from mmengine.registry import DATASETS, MODELS, init_default_scope
from numpy.typing import NDArray

from moca.data.config_datasets import leaf_datasets
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from moca.figures import distinct_colors
from moca.images.image_io import read_pixels
from moca.records.run_reading import Run, read_runs
from moca.transfer.evaluate import load_run
from moca.transfer.protocol import read_by_one_reader


@dataclass(frozen=True)
class FinishedRun:
    """A run to draw images of.

    Attributes:
        run: its record.
        cfg: its config.
        model: in eval mode, on the GPU if there is one.
    """

    run: Run
    cfg: Config
    model: Any

    @property
    def label(self) -> str:
        """Name for titles: the checkpoint that the run started from."""
        return self.run.checkpoint

    @cached_property
    def dataset(self) -> Any:
        """The validation set."""
        return DATASETS.build(self.cfg.val_dataloader.dataset)

    @cached_property
    def metainfo(self) -> dict[str, Any]:
        """What the validation set knows of its classes; its files are not looked at."""
        return DATASETS.build({**self.cfg.val_dataloader.dataset, 'lazy_init': True}).metainfo

    @property
    def classes(self) -> Sequence[str]:
        """Names of the classes."""
        classes: Sequence[str] = self.metainfo['classes']
        return classes

    @property
    def palette(self) -> Sequence[Sequence[float]]:
        """Colors of the classes, RGB in 0..255; the data set's own where it has enough."""
        own: Sequence[Sequence[float]] = self.metainfo.get('palette') or ()
        count = len(self.classes)
        return own if len(own) >= count else distinct_colors(count)

    @cached_property
    def _pipeline(self) -> Compose:
        """The validation pipeline, without what reads labels."""
        steps = leaf_datasets(self.cfg.val_dataloader.dataset)[0]['pipeline']
        return Compose(
            [
                step
                for step in steps
                if not str(step['type']).endswith(('Annotations', 'LoadPanopticMasks'))
            ]
        )

    def sample(self, source: int | Path) -> Any:
        """An image as the model takes it: one of the validation set, or any file."""
        if isinstance(source, Path):
            return self._pipeline(dict(img_path=str(source), img_id=0))
        return self.dataset[source]


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
    read_by_one_reader(cfg)  # the config may be of an earlier version
    cfg.model.backbone.init_cfg = None  # all weights come from the run
    model = MODELS.build(cfg.model)
    load_run(model, checkpoint)
    return FinishedRun(here[0], cfg, model.to(get_device()).eval())


@torch.no_grad()
def predict(
    finished: FinishedRun, sources: Iterable[int | Path]
) -> Iterator[tuple[NDArray[np.uint8], Any]]:
    """Yield each image as it lies on disk, RGB `[H, W, 3]`, and the prediction (a data sample).

    Args:
        finished: The run.
        sources: Indices into its validation set, or files.

    Raises:
        UserError: a file cannot be read as an image.
    """
    for source in sources:
        image = None if isinstance(source, int) else read_pixels(source)
        sample = finished.sample(source)
        if image is None:
            image = read_pixels(sample['data_samples'].metainfo['img_path'])
        yield image, finished.model.test_step(pseudo_collate([sample]))[0]
