"""The sheets of tools/visualize.py that show what backbones make of any images."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from timm.layers import Attention
from torch import Tensor

from moca import figures
from moca.backbone import PlainViT
from moca.backbone.rope import RopeAttention, rotated
from moca.errors import UserError
from moca.evaluation.backbones import NamedBackbone, read_input
from moca.evaluation.components import principal_colors
from moca.images.files import evenly_spread
from moca.images.shown_names import shown_names
from moca.pretrain.monitors.features import load_moment, moments_of


def attention_weights(
    attention: Attention, x: Tensor, queries: slice = slice(None), table: Tensor | None = None
) -> Tensor:
    """The weights that a block's attention takes the mean of its values with.

    Args:
        attention: timm's, in eval mode.
        x: Its input (after the block's first norm), ``[B, N, C]``.
        queries: Which tokens look; all by default.
        table: Of rotary positions, as `moca.backbone.rope.RopeAttention` takes it.

    Returns:
        ``[B, heads, queries, N]``; each row is of sum 1.
    """
    qkv = attention.qkv(x).unflatten(-1, (3, attention.num_heads, attention.head_dim))
    query, key, _ = qkv.permute(2, 0, 3, 1, 4)
    query, key = attention.q_norm(query), attention.k_norm(key)
    if table is not None:
        halves = getattr(attention, 'rotate_halves', True)
        query, key = rotated(query, table, halves), rotated(key, table, halves)
    return (query[:, :, queries] * attention.scale @ key.transpose(-2, -1)).softmax(-1)


@torch.no_grad()
def class_attention(model: PlainViT, images: Tensor) -> Tensor:
    """How a backbone's class token attends to each patch, in the last block that it runs.

    As in "Emerging Properties in Self-Supervised Vision Transformers" (arXiv 2104.14294), figure 1,
    and its released visualize_attention.py.

    Args:
        model: In eval mode; the block is the highest of its ``out_indices``.
        images: ``[B, 3, H, W]``, normalized, of whole patches.

    Returns:
        ``[B, heads, H / patch, W / patch]``. A head's sum is 1 less what goes to the class token
        itself and to registers.

    Raises:
        UserError: The ViT has no class token, windows, or attention of another kind.
    """
    block = max(model.out_indices)
    attention: Any = model.blocks[block].attn
    if model.cls_token is None:
        raise UserError('this ViT has no class token: there is no attention of it to draw.')
    if type(attention) not in (Attention, RopeAttention):
        raise UserError(
            f'block {block} has a {type(attention).__name__}: only the attention of plain ViTs '
            "(timm's Attention, or with rotary positions) can be drawn."
        )
    seen: list[tuple[Tensor, Tensor | None]] = []
    handle = attention.register_forward_pre_hook(
        lambda _, inputs, named: seen.append((inputs[0], named.get('attn_mask'))), with_kwargs=True
    )
    try:
        model(images)
    finally:
        handle.remove()
    x, table = seen[0]
    weights = attention_weights(attention, x, slice(0, 1), table)
    weights = weights[:, :, 0, model.num_prefix_tokens :]
    return weights.unflatten(-1, tuple(side // model.patch_size for side in images.shape[-2:]))


BRIGHTEST = 99.5
"""Percentile of a head's attention that is drawn brightest: single patches may have nearly all."""


@torch.no_grad()
def features_sheet(
    backbones: Sequence[NamedBackbone], paths: Sequence[Path], size: Sequence[int], out: Path
) -> None:
    """Principal components of the patch features of some backbones, side by side.

    Each backbone has components of its own, which all images share.

    Args:
        backbones: See :func:`moca.evaluation.backbones.load_backbones`.
        paths: Of the images.
        size: See :func:`moca.evaluation.backbones.read_input`.
        out: Image to write.

    Raises:
        UserError: An image cannot be decoded.
    """
    rows: list[list[Any]] = [[] for _ in paths]
    for backbone in backbones:
        maps = []
        for row, path in zip(rows, paths, strict=True):
            image, tensor = read_input(path, size, backbone.model)
            if not row:
                row.append(image)
            maps.append(backbone.model(tensor)[-1][0].float().cpu())
        for row, colors in zip(rows, principal_colors(maps), strict=True):
            row.append(colors)
    titles = ['image', *(backbone.name for backbone in backbones)]
    heading = 'Patch features: first three principal components as red, green, blue'
    names = [[name] for name in shown_names(paths)]
    figures.save_figure(figures.sheet(rows, titles, heading, names=names), out)


def attention_sheet(
    backbones: Sequence[NamedBackbone], paths: Sequence[Path], size: Sequence[int], out: Path
) -> None:
    """What the class token attends to, on average over the heads and in each of them.

    Several backbones take a row each below every image. Arguments as for `features_sheet`.

    Raises:
        UserError: An image cannot be decoded, or a backbone's attention not be drawn.
    """
    rows: list[list[Any]] = []
    files: list[list[str]] = []
    for path, file in zip(paths, shown_names(paths), strict=True):
        for number, backbone in enumerate(backbones):
            files.append([file if number == 0 else ''])
            image, tensor = read_input(path, size, backbone.model)
            heads = class_attention(backbone.model, tensor)[0].float().cpu().numpy()
            shown = [attention_over(image, weights) for weights in (heads.mean(0), *heads)]
            rows.append([image if number == 0 else None, *shown])
    most = max(map(len, rows))
    rows = [[*row, *[None] * (most - len(row))] for row in rows]
    titles = ['image', 'mean of heads', *(f'head {head}' for head in range(most - 2))]
    blocks = [max(backbone.model.out_indices) for backbone in backbones]
    names = [backbone.name for backbone in backbones]
    heading = "The class token's attention to patches"
    if len(set(blocks)) == 1:
        heading += f' in block {blocks[0]}'
    else:
        names = [f'{name}, block {block}' for name, block in zip(names, blocks, strict=True)]
    many = len(backbones) > 1
    heading += '' if many else f': {names[0]}'
    figure = figures.sheet(rows, titles, heading, indent=many, names=files)
    for line in range(len(rows) if many else 0):
        figures.row_title(figure.axes[line * most], names[line % len(names)])
    figures.save_figure(figure, out)


def attention_over(image: figures.Image, weights: NDArray[np.float32]) -> figures.Image:
    """Lay a map of attention over its image.

    Args:
        image: `[H, W, 3]`.
        weights: `[h, w]`, not negative; each patch becomes a block of pixels.

    Returns:
        `[H, W, 3]`: the image in gray, colored from dark to bright by the attention.
    """
    level = np.clip(weights / max(float(np.percentile(weights, BRIGHTEST)), 1e-12), 0, 1)
    size = (image.shape[1], image.shape[0])
    level = cv2.resize(level.astype(np.float32), size, interpolation=cv2.INTER_NEAREST)
    colors = 255 * matplotlib.colormaps['inferno'](level)[..., :3]
    return figures.blend(image, colors, share=0.75)


def progress_sheet(work_dir: Path, out: Path, count: int, columns: int = 8) -> None:
    """Draw what `FeatureFigures` has kept of a run.

    Args:
        work_dir: Of the run.
        out: Image to write.
        count: How many of the images at most.
        columns: How many moments at most, evenly spaced, the first and the last among them.

    Raises:
        UserError: The run has kept nothing.
    """
    paths = list(moments_of(work_dir).values())
    if not paths:
        raise UserError(
            f'{work_dir}: no images of features in */vis_data/features. Name the work dir of a '
            'run with the FeatureFigures hook.'
        )
    last = load_moment(paths[-1])
    # a run resumed with other images starts another sheet
    same = [
        moment for moment in map(load_moment, paths) if np.array_equal(moment.images, last.images)
    ]
    moments = [same[index] for index in evenly_spread(len(same), columns)]
    shown = [moment.colors() for moment in moments]
    rows: list[list[Any]] = [
        [moments[-1].images[number], *(colors[number] for colors in shown)]
        for number in evenly_spread(len(moments[-1].images), count)
    ]
    titles = ['image', *(f'epoch {moment.epoch}' for moment in moments)]
    heading = f"The {moments[-1].branch}'s patch features: principal components as red, green, blue"
    figures.save_figure(figures.sheet(rows, titles, heading), out)
