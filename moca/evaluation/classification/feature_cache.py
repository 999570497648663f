"""Features of a frozen backbone computed once, on which heads are then trained."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import Tensor

from moca.engine.hooks import find_hook
from moca.engine.wrapped import unwrapped
from moca.errors import UserError
from moca.evaluation.extraction import WITH_RUNS, Cut, ImageFeatures, features_folder
from moca.evaluation.labeled import Labeled
from moca.evaluation.protocol import EvaluationRun


@HOOKS.register_module()
class FeatureCache(Hook):
    """Computes the features of all training and validation images before the first step.

    Images are then no longer read, so that an epoch costs what the heads cost. Each is seen as
    testing sees it: without augmentation. Features are held in memory, in fp32.

    Args:
        batch_size: Images of a forward pass and process.
        folder: Where features are kept for other runs and for k-NN and low-shot evaluation, which
            read them; see :func:`moca.evaluation.extraction.features_folder`. None keeps nothing.
    """

    priority = 'HIGH'

    def __init__(self, batch_size: int = 128, folder: str | None = WITH_RUNS) -> None:
        self.batch_size, self.folder = batch_size, folder

    def before_train(self, runner: Any) -> None:
        """Fill the data sets; of a resumed run as well."""
        model = unwrapped(runner.model)
        was_training = model.training
        model.eval()
        known: dict[str, Tensor] = {}
        for loader in (runner.train_loop.dataloader, runner.val_loop.dataloader):
            dataset = loader.dataset
            run = self._run(model, loader.num_workers, runner.work_dir)
            cut = Cut(dataset.interpolation, dataset.share)
            parts = []
            for images, places in dataset.sources:
                if images.about not in known:
                    known[images.about] = self._whole(model, images, cut, run)
                parts.append(known[images.about][torch.from_numpy(places)])
            dataset.features = torch.cat(parts)
        model.train(was_training)

    def _run(self, model: Any, num_workers: int, work_dir: str) -> EvaluationRun:
        return EvaluationRun(
            device=next(model.backbone.parameters()).device,
            num_workers=num_workers,
            batch_size=self.batch_size,
            cache=features_folder(self.folder, work_dir),
        )

    def _whole(self, model: Any, images: Labeled, cut: Cut, run: EvaluationRun) -> Tensor:
        """Features ``[N, F]`` of a set, on the CPU of every process."""
        about = images.about
        return ImageFeatures(model.backbone, images, cut, model.feature, run, about).whole()


def check_cache(cfg: Config) -> None:
    """Verify that a run whose features are computed once needs no others.

    Raises:
        UserError: The backbone is trained, or the images are augmented.
    """
    found = find_hook(cfg, 'FeatureCache')
    if found is None:
        return
    if not cfg.model.backbone.get('frozen'):
        raise UserError(
            f'{found[0]}: a trained backbone gives other features each time. Remove it.'
        )
    if cfg.train_dataloader.dataset.get('augmentation') is not None or cfg.model.get('mixup'):
        raise UserError(
            f'{found[0]}: features that are computed once know no augmentation. Set '
            'train_dataloader.dataset.augmentation=None, or remove it.'
        )
