"""Look at a run's encoder from outside, and leave no trace in the run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.hooks import Hook
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.engine.amp import AutocastOptimWrapper
from moca.engine.wrapped import unwrapped
from moca.errors import UserError
from moca.evaluation.features import image_feature
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD


class EncoderMonitor(Hook, ABC):
    """Looks at the encoder before the first step, every so many epochs and after the last one.

    Args:
        interval: In epochs.

    Raises:
        UserError: ``interval`` is below 1.
    """

    # after the checkpoint, so that an epoch is saved before it is looked at
    priority = 'LOWEST'
    # a model whose parameters are sharded cannot be run by one process alone
    runs_encoder = True

    def __init__(self, interval: int) -> None:
        if interval < 1:
            raise UserError(f'{type(self).__name__}.interval is {interval!r}; give 1 or more.')
        self.interval = interval

    def before_train(self, runner: Any) -> None:
        """Look at what training starts from, or at a run that was killed after its last step."""
        if runner.iter == 0:
            self.look(runner, epoch=0)
        elif runner.iter >= runner.max_iters:
            self.look(runner, runner.epoch)

    def after_train_epoch(self, runner: Any) -> None:
        """Look every so many epochs and after the last one."""
        if self.every_n_epochs(runner, self.interval) or self.is_last_train_epoch(runner):
            self.look(runner, epoch=runner.epoch + 1)

    @abstractmethod
    def look(self, runner: Any, epoch: int) -> None:
        """What there is to do after so many epochs."""


def report(runner: Any, scores: dict[str, float], epoch: int, title: str, about: str) -> None:
    """Log scores in percent, and keep them for curves.

    Args:
        runner: Of the run.
        scores: By name.
        epoch: After how many.
        title: What they are.
        about: What they were measured on.
    """
    runner.visualizer.add_scalars(
        {**scores, 'epoch': epoch}, step=runner.iter, file_path=f'{runner.timestamp}.json'
    )
    values = ', '.join(f'{name} {score:.2f} %' for name, score in scores.items())
    runner.logger.info(f'{title} after {epoch} epochs: {values} ({about})')


def encoder_of(model: nn.Module) -> tuple[str, PlainViT]:
    """The branch that a method is judged by, and its name: the teacher, else the student.

    Args:
        model: A pre-training method, wrapped for several processes or not.

    Raises:
        UserError: It has neither.
    """
    inner = unwrapped(model)
    for name in ('teacher', 'student'):
        encoder = getattr(inner, name, None)
        if isinstance(encoder, PlainViT):
            return name, encoder
    raise UserError(
        f'{type(inner).__name__} has no teacher and no student that is a PlainViT; KNNMonitor and '
        'FeatureFigures watch one of them. Remove them (default_hooks.knn, .features).'
    )


def precision_of(runner: Any) -> torch.dtype | None:
    """The type that a run autocasts to; None in fp32."""
    wrapper = runner.optim_wrapper
    return wrapper.dtype if isinstance(wrapper, AutocastOptimWrapper) else None


def normalization_of(runner: Any) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of the training views' channels; ImageNet's if the data do not say."""
    views = getattr(getattr(runner.train_dataloader, 'dataset', None), 'views', None)
    mean = getattr(views, 'mean', IMAGENET_MEAN)
    return mean, getattr(views, 'std', IMAGENET_STD)


@contextmanager
def evaluating(encoder: nn.Module) -> Iterator[None]:
    """Eval mode without gradients; afterwards every module has the mode that it had.

    Nothing is compiled for it either: batches of another size would make the training's graphs be
    compiled again.
    """
    modes = [(module, module.training) for module in encoder.modules()]
    encoder.eval()
    try:
        with torch.no_grad(), torch.compiler.set_stance('force_eager'):
            yield
    finally:
        for module, mode in modes:
            module.training = mode


def patch_features(encoder: PlainViT, images: Tensor, precision: torch.dtype | None) -> Tensor:
    """Patch tokens after the final norm, ``[B, L, C]`` fp32.

    Args:
        encoder: In eval mode.
        images: ``[B, 3, H, W]``, normalized, anywhere.
        precision: To autocast to; None for fp32.
    """
    device = next(encoder.parameters()).device
    images = images.to(device, non_blocking=True)
    with torch.autocast(device.type, precision, enabled=precision is not None):
        return encoder.tokens(images).patches.float()


def image_features(encoder: PlainViT, images: Tensor, precision: torch.dtype | None) -> Tensor:
    """Mean patch token of each image, of length 1, ``[B, C]`` fp32; see `patch_features`."""
    return F.normalize(image_feature(encoder, images, 'avg', precision), dim=1)
