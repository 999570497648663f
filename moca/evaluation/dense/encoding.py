"""Patch features of squares, batch by batch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from mmengine.logging import print_log
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.evaluation.dense.squared import Squares
from moca.evaluation.features import check_finite, patch_map
from moca.evaluation.protocol import EvaluationRun


def whole_patches(size: int, patch: int, field: str) -> int:
    """The largest side in pixels up to a protocol's size that is whole patches.

    That is how the published tables choose: 512 pixels of patches of 16, 504 of 14.

    Raises:
        UserError: Not one patch fits.
    """
    side = size // patch * patch
    if not side:
        raise UserError(f'{field}={size}: smaller than a patch of {patch}. Give a multiple of it.')
    if side != size:
        print_log(
            f'{field}: {size} pixels are not whole patches of {patch}; images are squashed to '
            f'{side} x {side}.',
            'current',
        )
    return side


def encoded(
    model: PlainViT,
    squares: Squares,
    run: EvaluationRun,
    about: str,
    order: Sequence[int] | None = None,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Patch features and label maps of images, with a line of progress now and then.

    Takes no number from torch's global generator.

    Args:
        model: In eval mode.
        squares: Images and label maps of equal sides.
        run: Device, precision, batch size and workers.
        about: What the images are, for the log.
        order: Numbers of images; None for all, as they are listed.

    Yields:
        ``[B, N, D]`` fp32 on the run's device, patches row by row, and labels ``[B, S, S]`` uint8
        on the CPU.

    Raises:
        UserError: A feature is not finite.
    """
    chosen = squares if order is None else Subset(squares, list(order))
    loader = DataLoader(
        chosen,
        batch_size=run.batch_size,
        num_workers=run.num_workers,
        generator=torch.Generator(),
    )
    for images, labels in run.progress(loader, about):
        with torch.no_grad():
            features = patch_map(model, images.to(run.device))
        check_finite(features, about)
        yield features.flatten(2).transpose(1, 2), labels
