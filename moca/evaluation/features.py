"""What a frozen ViT makes of an image: one feature for the whole, or a map of its patches.

Kinds of features and who measures with them (k-NN, linear probes, low-shot):

==============  ===========================================  =====================================
``avg``         mean of the patch tokens, after the norm     MOCA, knn_utils.py:20-25
``cls``         class token, after the norm                  DINO, vision_transformer.py:209-214
``cls+avg``     both, one behind the other                   MOCA and iBOT, linear probes of ViT-B
``cls*N``       class tokens of the last N blocks, each      DINO and iBOT, linear probes of ViT-S
                after the final norm, the earliest first
``avg_prenorm`` mean of the last block's patch tokens,       MOCA, eval_lowshot_logistic.py:440
                before the final norm
``cls_prenorm`` its class token, before the final norm       MSN, deit.py:266-289
==============  ===========================================  =====================================

Register tokens are in none of them.
"""

from __future__ import annotations

import math
import re
from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor

from moca.backbone import PlainViT
from moca.errors import UserError

KINDS = ('avg', 'cls', 'cls+avg', 'cls*4', 'avg_prenorm', 'cls_prenorm')
"""What `image_feature` takes; the number in ``cls*4`` may be any from 1 up."""

_SEVERAL = re.compile(r'cls\*([1-9]\d*)')


def image_feature(
    model: PlainViT, images: Tensor, kind: str, precision: torch.dtype | None = None
) -> Tensor:
    """One feature an image, ``[B, F]`` fp32, as the backbone gives it: of no particular length.

    Args:
        model: In eval mode.
        images: ``[B, 3, H, W]``, normalized with the model's own ``mean`` and ``std``, anywhere.
        kind: One of `KINDS`.
        precision: To autocast to; None for the precision that is set already, fp32 by default.

    Raises:
        UserError: There is no such kind, or the model has no class token or fewer blocks.
    """
    count = _class_tokens(model, kind)
    images = images.to(model.patch_embed.proj.weight.device, non_blocking=True)
    with _autocast(images, precision):
        if kind == 'cls_prenorm':
            return model.tokens(images, layers=(-1,)).intermediate_prefix[0][:, 0].float()
        if kind == 'avg_prenorm':
            return model.tokens(images, layers=(-1,)).intermediate[0].float().mean(1)
        if several := _SEVERAL.fullmatch(kind):
            layers = range(-int(several[1]), 0)
            found = model.tokens(images, layers=layers).intermediate_prefix
            return torch.cat([model.norm(prefix[:, :1])[:, 0].float() for prefix in found], dim=1)
        tokens = model.tokens(images)
    parts = [tokens.prefix[:, 0].float()] if count else []
    if 'avg' in kind:
        parts.append(tokens.patches.float().mean(1))
    return torch.cat(parts, dim=1)


def patch_map(
    model: PlainViT, images: Tensor, norm: bool = True, precision: torch.dtype | None = None
) -> Tensor:
    """Patch tokens of the last block as a map, ``[B, C, h, w]`` fp32.

    Args:
        model: In eval mode.
        images: ``[B, 3, H, W]``, normalized with the model's own ``mean`` and ``std``, anywhere;
            padded with zeros on the right and below to whole patches.
        norm: After the final norm, or before it.
        precision: As for `image_feature`.
    """
    height, width = images.shape[-2:]
    grid = math.ceil(height / model.patch_size), math.ceil(width / model.patch_size)
    images = images.to(model.patch_embed.proj.weight.device, non_blocking=True)
    with _autocast(images, precision):
        tokens = model.tokens(images, layers=() if norm else (-1,))
    patches = tokens.patches if norm else tokens.intermediate[0]
    return patches.float().transpose(1, 2).unflatten(2, grid)


def check_finite(features: Tensor, about: str, precision: torch.dtype | None = None) -> Tensor:
    """Return features that are all finite.

    What is not a number is neither more nor less than anything: a query of such features counts
    as right in k-NN, and its nearest neighbor is the first of the bank.

    Args:
        features: Of any shape.
        about: What they are of, for the message.
        precision: That they were computed in; None for fp32.

    Raises:
        UserError: Some are infinite or no numbers.
    """
    if not features.isfinite().all():
        remedy = (
            'Give another --checkpoint'
            if precision is None
            else f'{str(precision).removeprefix("torch.")} may be too small for it: leave out --amp'
        )
        raise UserError(
            f'--checkpoint: its features of {about} are not all finite numbers. {remedy}.'
        )
    return features


def image_size(model: PlainViT) -> tuple[int, int]:
    """Height and width in pixels for which a model's positions are made."""
    return model.grid[0] * model.patch_size, model.grid[1] * model.patch_size


def feature_width(kind: str, width: int) -> int:
    """How many numbers a kind of feature has of a ViT of some width.

    Raises:
        UserError: There is no such kind.
    """
    check_kind(kind)
    several = _SEVERAL.fullmatch(kind)
    return width * (int(several[1]) if several else len(kind.split('+')))


def check_kind(kind: str, field: str = 'feature') -> None:
    """Verify that there is a kind of feature.

    Raises:
        UserError: There is none, naming those that there are.
    """
    if kind not in KINDS and not _SEVERAL.fullmatch(str(kind)):
        raise UserError(f'{field}={kind!r}: there is no such feature. Give one of {_listed()}.')


def _class_tokens(model: PlainViT, kind: str) -> int:
    """How many class tokens a kind takes; UserError where a model does not have them."""
    check_kind(kind)
    if 'cls' not in kind:
        return 0
    if model.cls_token is None:
        raise UserError(
            f'feature={kind!r}: this architecture has no class token. Give avg or avg_prenorm.'
        )
    several = _SEVERAL.fullmatch(kind)
    count = int(several[1]) if several else 1
    if count > model.num_layers:
        raise UserError(
            f'feature={kind!r}: the ViT has {model.num_layers} blocks. Give a smaller number.'
        )
    return count


def _autocast(images: Tensor, precision: torch.dtype | None) -> AbstractContextManager[object]:
    if precision is None:
        return nullcontext()
    return torch.autocast(images.device.type, precision)


def _listed() -> str:
    return ', '.join(KINDS)
