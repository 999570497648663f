"""Features of a frozen backbone computed once, on which heads are then trained."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather, get_rank, get_world_size
from mmengine.hooks import Hook
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor
from torch.utils.data import DataLoader, Subset, default_collate

from moca.engine.hooks import find_hook
from moca.errors import UserError


@HOOKS.register_module()
class FeatureCache(Hook):
    """Computes the features of all training and validation images before the first step.

    Images are then no longer read, so that an epoch costs what the heads cost. Each is seen as
    testing sees it: without augmentation. Features are kept in memory, in fp32.
    """

    priority = 'HIGH'

    def before_train(self, runner: Any) -> None:
        """Fill the data sets; of a resumed run as well."""
        model = runner.model.module if is_model_wrapper(runner.model) else runner.model
        for loader in (runner.train_loop.dataloader, runner.val_loop.dataloader):
            runner.logger.info(f'{len(loader.dataset):,} images: features are computed once.')
            loader.dataset.features = features_of(model, loader)


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
            f'{found[0]}: the features of a backbone that is trained change. Remove it.'
        )
    if cfg.train_dataloader.dataset.get('augmentation') is not None or cfg.model.get('mixup'):
        raise UserError(
            f'{found[0]}: features that are computed once know no augmentation. Set '
            'train_dataloader.dataset.augmentation=None, or remove it.'
        )


@torch.no_grad()
def features_of(model: Any, loader: DataLoader[Any]) -> Tensor:
    """Features of a loader's images in the order of its data set, ``[N, F]``, on the CPU.

    Every process computes its share, and no image is there twice.

    Args:
        model: An `ImageClassifier`.
        loader: Its data set, batch size and number of workers are used.
    """
    dataset: Any = loader.dataset
    count, rank, processes = len(dataset), get_rank(), get_world_size()
    share = -(-count // processes)
    mine = range(min(rank * share, count), min((rank + 1) * share, count))
    batches = DataLoader(
        Subset(dataset, mine),
        batch_size=loader.batch_size,
        num_workers=loader.num_workers,
        collate_fn=default_collate,
        # draws nothing from torch's global generator
        generator=torch.Generator(),
    )
    was_training = model.training
    model.eval()
    found = [
        model.features(model.data_preprocessor({'inputs': batch['inputs']})['inputs']).cpu()
        for batch in batches
    ]
    model.train(was_training)
    if processes == 1:
        return torch.cat(found)
    device = next(model.parameters()).device
    width = model.head_width
    own = torch.zeros(share, width, device=device)
    if found:
        own[: len(mine)] = torch.cat(found).to(device)
    return torch.cat([part.cpu() for part in all_gather(own)])[:count]
