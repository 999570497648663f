"""A pre-trained backbone in one hand: images in, features of patches out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from moca.backbone.vit import PlainViT
from moca.engine.amp import preferred_dtype
from moca.engine.devices import checked_device
from moca.evaluation.backbones import fit_input, load_backbones
from moca.predict.pixels import ImageLike, Several, as_pixels
from moca.predict.shown import Brief, listed


@dataclass(frozen=True, eq=False, repr=False)
class Features(Brief):
    """What a backbone makes of an image, after its final norm, as fp32.

    Attributes:
        patches: ``[h, w, C]``, one for each patch of the resized image.
        class_token: ``[C]``; None of a ViT without one.
        registers: ``[R, C]``; R is 0 for most.
        image: What the backbone saw, RGB ``[H, W, 3]`` uint8: patch (i, j) covers the pixels from
            (i * patch_size, j * patch_size) on.
    """

    patches: NDArray[np.float32]
    class_token: NDArray[np.float32] | None
    registers: NDArray[np.float32]
    image: NDArray[np.uint8]


class Backbone:
    """A ViT in eval mode with its own normalization.

    Args:
        name: Of the checkpoint, for titles.
        vit: The ViT.
        amp: Whether to compute in half precision: bfloat16, or float16 on older GPUs.

    Attributes:
        vit: A :class:`torch.nn.Module`, to go on with in torch.
    """

    def __init__(self, name: str, vit: PlainViT, amp: bool = False) -> None:
        self.name, self.vit = name, vit
        self._precision = getattr(torch, preferred_dtype()) if amp else None

    def __repr__(self) -> str:
        vit, side = self.vit, self.patch_size
        rows, columns = vit.grid
        return listed(
            self,
            name=self.name,
            blocks=f'{vit.num_layers} of {vit.embed_dims} channels',
            patches=f'{side} x {side} pixels',
            positions=f'of images of {columns * side} x {rows * side} pixels',
            device=next(vit.parameters()).device,
        )

    @property
    def patch_size(self) -> int:
        """Side of a patch in pixels."""
        return self.vit.patch_size

    @property
    def mean(self) -> tuple[float, ...]:
        """What images of 0..1 are normalized with: RGB means."""
        return tuple(self.vit.mean)

    @property
    def std(self) -> tuple[float, ...]:
        """The deviations; see `mean`."""
        return tuple(self.vit.std)

    @overload
    def features(self, images: ImageLike, size: int | Sequence[int] | None = None) -> Features: ...

    @overload
    def features(
        self, images: Several, size: int | Sequence[int] | None = None
    ) -> list[Features]: ...

    def features(
        self, images: ImageLike | Several, size: int | Sequence[int] | None = None
    ) -> Features | list[Features]:
        """Features of an image, or of several, one after the other.

        Args:
            images: A file or an array, or a list of them. Arrays are RGB ``[H, W, 3]`` uint8; gray,
                alpha and more bits are taken as they are from files.
            size: The shorter side in pixels to which an image is resized, or height and width; None
                for its own size. Either is rounded to whole patches.

        Raises:
            UserError: An image cannot be read.
        """
        if isinstance(images, list | tuple):
            return [self.features(image, size) for image in images]
        pixels = Image.fromarray(as_pixels(images))
        wanted: Sequence[int] = [size] if isinstance(size, int) else size or pixels.size[::-1]
        seen, tensor = fit_input(pixels, wanted, self.vit)
        height, width = (side // self.patch_size for side in seen.shape[:2])
        half = torch.autocast(tensor.device.type, self._precision, self._precision is not None)
        with torch.no_grad(), half:
            tokens = self.vit.tokens(tensor)
        prefix = tokens.prefix[0].float().cpu().numpy()
        count = int(self.vit.cls_token is not None)
        return Features(
            patches=tokens.patches[0].float().cpu().numpy().reshape(height, width, -1),
            class_token=prefix[0] if count else None,
            registers=prefix[count:],
            image=seen,
        )


def load_backbone(
    checkpoint: str | Path,
    arch: str | None = None,
    *,
    branch: str | None = None,
    prefix: str | None = None,
    trust: bool = False,
    device: str | torch.device | None = None,
    amp: bool = False,
    **changes: Any,
) -> Backbone:
    """Load the ViT of a checkpoint of any family, with the normalization that it was trained with.

    Positions stay as they are in the file and are resampled to the grid of each image.

    Args:
        checkpoint: A file, or ``random`` with an `arch`.
        arch: timm's name; by default what the file says of itself.
        branch: ``teacher`` or ``student``, of files that have both.
        prefix: What stands before the keys of the encoder, in files of several.
        trust: Read with plain pickle.
        device: To run on; a GPU by default if there is one.
        amp: Whether to compute in half precision.
        changes: ``patch``, ``mean`` and ``std``, of :func:`moca.checkpoints.changes.changed`.

    Raises:
        UserError: The file or its architecture is unknown, they do not fit, or there is no such
            device.

    Example:
        >>> import moca
        >>> vit = moca.backbone('random', 'vit_tiny_patch16')
        >>> vit.features(numpy.zeros((64, 96, 3), numpy.uint8)).patches.shape
        (4, 6, 192)
    """
    where = None if device is None else checked_device(device)
    how: dict[str, Any] = dict(branch=branch, prefix=prefix, trust=trust, **changes)
    (found,) = load_backbones([str(checkpoint)], [arch] if arch else [], **how)
    vit = found.model if where is None else found.model.to(where)
    return Backbone(found.name, vit, amp)
