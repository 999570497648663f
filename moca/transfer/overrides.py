"""What the command line changes in a downstream config: data folder, architecture, checkpoint.

Functions of a config, which they change in place; nothing is read or built but the dimensions of
the architecture.
"""

from __future__ import annotations

import posixpath
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from moca.backbone.arch import ArchSpec, ViTDimensions, rope_of, vit_dimensions
from moca.data.config_datasets import leaf_datasets, nested_dicts
from moca.errors import UserError

_SPLITS = ('train', 'val', 'test')

# Fields of heads and necks which hold the width of the backbone, or a list of it.
_WIDTH_FIELDS = ('in_channels', 'channels', 'embed_dims', 'embed_dim')
# Fields of detectors which hold strides in pixels: the patch size times a power of two.
_STRIDE_FIELDS = ('strides', 'featmap_strides')
# What mmseg's Feature2Pyramid can do to a map: these ratios and no others.
_RESCALES = (4, 2, 1, 0.5, 0.25)


def set_data_root(cfg: Config, root: str | Path) -> None:
    """Move the data sets of loaders and evaluations, and annotation files, to another folder.

    mmengine resolves ``data_root`` while it reads a config: changing it afterwards reaches neither
    the data sets nor an evaluator's ``ann_file``. Wrapped data sets (`RepeatDataset`,
    `ConcatDataset`, ...) are reached as well.

    Raises:
        UserError: if the folder does not exist, or the config has no data set to move.
    """
    if not Path(root).is_dir():
        raise UserError(f'--data-root {root}: no such folder.')
    loaders = [cfg[f'{s}_dataloader'] for s in _SPLITS if cfg.get(f'{s}_dataloader')]
    evaluators = [cfg[f'{s}_evaluator'] for s in _SPLITS if cfg.get(f'{s}_evaluator')]
    datasets = [dataset for loader in loaders for dataset in leaf_datasets(loader['dataset'])]
    if cfg.get('evaluation'):  # of a protocol without training
        loaders.append(cfg.evaluation)
        datasets += [node for node in nested_dicts(cfg.evaluation) if 'data_root' in node]
    if not datasets:
        raise UserError(f'--data-root: {cfg.filename} has no data set whose folder could be set.')
    old_roots = {node['data_root'] for node in datasets if node.get('data_root')}
    if cfg.get('data_root'):
        old_roots.add(cfg.data_root)

    def moved(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        for old in sorted(old_roots, key=len, reverse=True):
            if value.rstrip('/') == old.rstrip('/'):
                return str(root)
            if value.startswith(old.rstrip('/') + '/'):
                return posixpath.join(str(root), value[len(old.rstrip('/')) + 1 :])
        return value

    for section in loaders + evaluators:
        _map_leaves(section, moved)
    for node in datasets:
        node['data_root'] = str(root)
    cfg.data_root = str(root)


IMAGENET = ([123.675, 116.28, 103.53], [58.395, 57.12, 57.375])
"""What our base configs normalize with, and mmseg's and mmdet's: of pixels from 0 to 255."""


THE_RUN = 'the run'
"""Who says what a trained model's images are normalized with, which cannot be changed."""


def set_statistics(
    cfg: Config, mean: Sequence[float], std: Sequence[float], said_by: str | None
) -> tuple[Sequence[float], Sequence[float]]:
    """Normalize images as a checkpoint wants them.

    Args:
        cfg: A config, whose ``model.data_preprocessor`` is changed.
        mean: RGB, of pixels from 0 to 1.
        std: The same.
        said_by: Who says so; None leaves the config as it is, and a log line says what that is.

    Returns:
        Mean and deviation that images are normalized with, of pixels from 0 to 1.

    Raises:
        UserError: The config names others itself, neither ImageNet's nor these.
    """
    preprocessor = cfg.model.get('data_preprocessor')
    if preprocessor is None:
        return mean, std
    wanted = [round(255 * value, 3) for value in mean], [round(255 * value, 3) for value in std]
    given = (
        list(preprocessor.get('mean') or IMAGENET[0]),
        list(preprocessor.get('std') or IMAGENET[1]),
    )
    if _close(given, wanted):
        return mean, std
    if said_by is None:
        print_log(
            f'Images are normalized with mean {given[0]} and std {given[1]}, as the config says: '
            'what the checkpoint wants is not known.',
            'current',
        )
        return tuple(v / 255 for v in given[0]), tuple(v / 255 for v in given[1])
    if not _close(given, IMAGENET):
        words = [' '.join(f'{value / 255:.4g}' for value in part) for part in given]
        raise UserError(
            f'model.data_preprocessor: mean {given[0]} and std {given[1]}, but the checkpoint '
            f'wants {wanted[0]} and {wanted[1]} ({said_by}). Leave them out of the config'
            + (
                '.'
                if said_by == THE_RUN
                else f', or insist on them: --mean {words[0]} --std {words[1]}.'
            )
        )
    preprocessor.mean, preprocessor.std = wanted
    print_log(
        f'Images are normalized with mean {wanted[0]} and std {wanted[1]} ({said_by}).', 'current'
    )
    return mean, std


def _close(first: Sequence[Sequence[float]], second: Sequence[Sequence[float]]) -> bool:
    """Whether means and deviations agree to a fifth of a gray level."""
    pairs = zip([*first[0], *first[1]], [*second[0], *second[1]], strict=True)
    return all(abs(a - b) < 0.2 for a, b in pairs)


def set_arch(cfg: Config, arch: ArchSpec) -> None:
    """Change the backbone's architecture and whatever in the model follows from it.

    - ``in_channels``, ``channels`` and ``embed_dims`` of necks and heads, where they are the old
      backbone's width, a list of it, or the sum of such a list;
    - ``num_heads`` of a decoder as wide as the backbone, at the same width per head or the next
      that divides it;
    - positive ``out_indices`` and ``global_blocks``, kept at the same share of the depth (blocks
      3, 5, 7, 11 of 12 become 7, 11, 15, 23 of 24);
    - ``rescales`` of `Feature2Pyramid`, so that its strides in pixels stay (patches of 8 are
      rescaled by 2, 1, .5, .25, as iBOT does), as far as it can do that;
    - ``rel_pos`` of windows, which are left out where the architecture has rotary positions;
    - a detector's strides, where the patch size differs and they did not stay.

    Raises:
        UserError: if the architecture is unknown, or the config has no backbone with one.
    """
    backbone = cfg.get('model', {}).get('backbone', {})
    if 'arch' not in backbone:
        raise UserError(f'--arch: {cfg.filename} has no model.backbone.arch to change.')
    old, new = vit_dimensions(backbone['arch']), vit_dimensions(arch)
    backbone['arch'] = arch
    for field in ('out_indices', 'global_blocks'):
        if field in backbone:
            backbone[field] = tuple(
                index if index < 0 else max((index + 1) * new.depth // old.depth, 1) - 1
                for index in backbone[field]
            )
    if backbone.get('rel_pos') and rope_of(arch) is not None:
        backbone['rel_pos'] = False
        print_log(
            'Relative positions (model.backbone.rel_pos) are left out: the architecture has rotary '
            'ones, in windows as well.',
            'current',
        )
    nodes = [
        n for name, part in cfg.model.items() if name != 'backbone' for n in nested_dicts(part)
    ]
    kept = any([_keep_strides(node, old, new) for node in nodes])
    for node in nodes:
        _rescale(node, old, new, strides=not kept)


def _keep_strides(node: dict[str, Any], old: ViTDimensions, new: ViTDimensions) -> bool:
    """Change the ratios of a pyramid to keep its strides, if it can; returns whether it did."""
    rescales = [value * new.patch_size / old.patch_size for value in node.get('rescales', ())]
    if not rescales or not set(rescales) <= set(_RESCALES):
        return False
    node['rescales'] = rescales
    return True


def _rescale(node: dict[str, Any], old: ViTDimensions, new: ViTDimensions, strides: bool) -> None:
    """Change the fields of one dict of a model's config that follow from the architecture."""
    inputs = node.get('in_channels')
    sum_of_inputs = sum(inputs) if isinstance(inputs, list | tuple) else None
    if node.get('embed_dims') == old.embed_dim and 'num_heads' in node:
        heads = max(node['num_heads'] * new.embed_dim // old.embed_dim, 1)
        node['num_heads'] = next(n for n in range(heads, 0, -1) if new.embed_dim % n == 0)
    for field in _WIDTH_FIELDS:
        value = node.get(field)
        if value == old.embed_dim:
            node[field] = new.embed_dim
        elif isinstance(value, list | tuple) and all(v == old.embed_dim for v in value):
            node[field] = [new.embed_dim] * len(value)
        elif value == sum_of_inputs and value is not None and value % old.embed_dim == 0:
            node[field] = value // old.embed_dim * new.embed_dim
    for field in _STRIDE_FIELDS:
        if strides and field in node and new.patch_size != old.patch_size:
            values = [value * new.patch_size / old.patch_size for value in node[field]]
            node[field] = [int(value) if value.is_integer() else value for value in values]


def _map_leaves(node: Any, change: Callable[[Any], Any]) -> Any:
    """Replace every leaf of a nested config by `change` of it, in place."""
    if isinstance(node, dict):
        for key in list(node):
            node[key] = _map_leaves(node[key], change)
        return node
    if isinstance(node, list):
        node[:] = [_map_leaves(value, change) for value in node]
        return node
    if isinstance(node, tuple):
        return tuple(_map_leaves(value, change) for value in node)
    return change(node)
