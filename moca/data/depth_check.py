"""Looking at the images and depth maps of a config's data sets before a run."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import mmseg.registry
import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.data.config_datasets import nested_dicts
from moca.depth.datasets import read_depth_list
from moca.depth.loading import read_depth, size_fault
from moca.depth.metrics import NYU_SIZE
from moca.errors import UserError
from moca.images.files import dataset_path, evenly_spread, require_files, require_whole
from moca.images.inspection import inspect

DECODED = 32  # depth maps of a split that are decoded before a run
_THREADS = 8
_DEPTH_KEY = 'depth_map_path'
_LOADERS = {'LoadCheckedDepthAnnotations': 1e-3, 'LoadDepthAnnotation': 1.0}  # default factors
_THOUSAND = 1000  # millimeters in a meter
_FEW = 0.01  # of the range of the head: nothing that is that near can be told apart [choice]


@dataclass(frozen=True)
class DepthPairs:
    """A data set's images and depth maps.

    Attributes:
        images, depths: one each.
        source: the list or the folder that they were found by.
    """

    images: list[Path]
    depths: list[Path]
    source: Path


def find_depth_pairs(dataset: dict[str, Any], field: str) -> DepthPairs:
    """List a data set's images and depth maps; whether the files exist is not checked.

    Args:
        dataset: config of a `ListedNYUDataset` or of mmseg's `NYUDataset`.
        field: what to call it in messages.

    Raises:
        UserError: if there is neither its list nor its folder, or no image in there.
    """
    listed = dataset_path(dataset, dataset['ann_file']) if dataset.get('ann_file') else None
    if listed is not None and listed.is_file():
        pairs, _ = read_depth_list(listed, Path(dataset.get('data_root') or ''))
        return DepthPairs([Path(image) for image, _ in pairs], [Path(d) for _, d in pairs], listed)
    prefix = dataset.get('data_prefix') or {}
    folders = [dataset_path(dataset, prefix.get(key) or '') for key in ('img_path', _DEPTH_KEY)]
    for folder in folders:
        if not folder.is_dir():
            also = f', and no list {listed}' if listed else ''
            raise UserError(
                f'{folder}: no such folder{also} ({field}). Give the folder that holds the data '
                'with --data-root.'
            )
    options = {key: value for key, value in dataset.items() if key not in ('indices', 'ann_file')}
    built = mmseg.registry.DATASETS.build({**options, 'pipeline': [], 'lazy_init': True})
    entries = built.load_data_list()
    if not entries:
        raise UserError(
            f'{folders[0]}: no images. {field} reads files whose names end in '
            f'{built.img_suffix!r}; check --data-root and img_suffix.'
        )
    return DepthPairs(
        [Path(entry['img_path']) for entry in entries],
        [Path(entry['depth_map_path']) for entry in entries],
        folders[0],
    )


def check_depth(cfg: Config, dataset: dict[str, Any], field: str) -> None:
    """Check that every image has a depth map of its size, and what some of them hold.

    All files are looked at, of which `DECODED` depth maps, evenly spread, are decoded; the others
    are checked as they are loaded.

    Args:
        cfg: the whole config, for the range of the head and the rectangle of the evaluation.
        dataset: config of one of its data sets.
        field: what to call it in messages.

    Raises:
        UserError: naming the first file that is missing, broken or wrong, or what is wrong with
            all of them.
    """
    pairs = find_depth_pairs(dataset, field)
    hint = ' Check depth_map_suffix, or the list, and that the download is complete.'
    require_files(pairs.images, f'the images of {pairs.source}')
    require_files(pairs.depths, f'the depth maps of {pairs.source}', hint)
    require_whole([*pairs.images, *pairs.depths])
    with ThreadPoolExecutor(_THREADS) as pool:
        sizes = list(pool.map(_sizes, pairs.images, pairs.depths, chunksize=64))
    for path, (image, depth) in zip(pairs.depths, sizes, strict=True):
        if 0 not in (*image, *depth) and image != depth:
            wrong = sum(one != other for one, other in sizes)
            fault = size_fault(depth, image)
            raise UserError(f'{path}: {fault} So {wrong} of {len(sizes)} depth maps.')
    check_rectangles(cfg, dataset, field, pairs.images, [image for image, _ in sizes])
    _check_values(cfg, dataset, field, pairs)


def _sizes(image: Path, depth: Path) -> tuple[tuple[int, int], tuple[int, int]]:
    return inspect(image, decode=False).size, inspect(depth, decode=False).size


def check_rectangles(
    cfg: Config,
    dataset: dict[str, Any],
    field: str,
    images: Sequence[Path],
    sizes: Sequence[tuple[int, int]],
) -> None:
    """Check that NYUv2's border and the rectangle of its evaluation meet images of its size.

    Args:
        cfg: the whole config.
        dataset: config of one of its data sets.
        field: what to call it in messages.
        images: its files.
        sizes: their heights and widths; (0, 0) where that is not known.

    Raises:
        UserError: naming the first image of another size.
    """
    for step in nested_dicts(dataset.get('pipeline')):
        if step.get('type') != 'CutFrame':
            continue
        height, width = step['rows'][1], step['columns'][1]
        for path, size in zip(images, sizes, strict=True):
            if 0 not in size and (size[0] < height or size[1] < width):
                raise UserError(
                    f'{path}: {size[1]} x {size[0]} pixels, but CutFrame of {field} takes '
                    f'{width} x {height} and more (width x height). NYUv2 has 640 x 480; for '
                    'other images start from configs/depth/own_linear.py.'
                )
    evaluator = cfg.get(f'{field.split("_")[0]}_evaluator') or {}
    if isinstance(evaluator, dict) and evaluator.get('crop_type') == 'nyu_crop':
        for path, size in zip(images, sizes, strict=True):
            if 0 not in size and size != NYU_SIZE:
                raise UserError(
                    f'{path}: {size[1]} x {size[0]} pixels, but crop_type=nyu_crop of the '
                    'evaluator is for 640 x 480 (width x height). Set it to None.'
                )


def meters_of_unit(dataset: dict[str, Any]) -> float | None:
    """Return the meters of one unit in the files; None if another transform loads them."""
    for step in nested_dicts(dataset.get('pipeline')):
        kind = str(step.get('type')).rpartition('.')[2]
        if kind in _LOADERS:
            return float(step.get('depth_rescale_factor', _LOADERS[kind]))
    return None


def _check_values(cfg: Config, dataset: dict[str, Any], field: str, pairs: DepthPairs) -> None:
    """Decode some depth maps, of which the valid values have to lie in the range of the head."""
    factor = meters_of_unit(dataset)
    if factor is None:
        return
    chosen = [pairs.depths[place] for place in evenly_spread(len(pairs.depths), DECODED)]
    with ThreadPoolExecutor(_THREADS) as pool:
        values = list(pool.map(_valid, chosen))
    empty = [path for path, found in zip(chosen, values, strict=True) if not len(found)]
    if len(empty) == len(chosen):
        raise UserError(
            f'{chosen[0]}: all zero, which is no depth, and so are all {len(chosen)} depth maps '
            f'of {field} looked at. Fetch or write them again.'
        )
    if empty:
        print_log(
            f'{field}: {len(empty)} of {len(chosen)} depth maps looked at are all zero, such as '
            f'{empty[0]}: there is nothing to learn from them or to measure.',
            'current',
            level=30,
        )
    median = float(np.median(np.concatenate(values)))
    fault = unit_fault(median, factor, float(cfg.model.decode_head.get('max_depth', 10.0)))
    if fault:
        raise UserError(f'{chosen[0]}: {fault} ({field}).')


def _valid(path: Path) -> NDArray[np.float32]:
    """Some of the values that are not zero, as many as a median needs."""
    depth = read_depth(path)
    found = depth[depth > 0]
    return found[:: max(len(found) // 4096, 1)]


def unit_fault(median: float, factor: float, largest: float) -> str | None:
    """Say that depth is of another unit than the config takes it for; None if it can be right.

    Args:
        median: of valid values as stored.
        factor: meters of one unit, by the config (``depth_rescale_factor``).
        largest: of the head, in meters.
    """
    meters = median * factor
    if _FEW * largest <= meters <= largest:
        return None
    text = f'the median of the depth maps is {median:g}, {meters:g} m by depth_rescale_factor'
    text += f'={factor:g}, where the head is for up to {largest:g} m'
    for unit, right in (('meters', 1.0), ('millimeters', 1 / _THOUSAND)):
        if right != factor and _FEW * largest <= median * right <= largest:
            return (
                f'{text}. They look like {unit}: set depth_rescale_factor={right:g} in the '
                'pipelines, or write millimeters in 16 bits'
            )
    return (
        f'{text}. Set depth_rescale_factor in the pipelines to the meters of one unit, or '
        'max_depth of the head and max_depth_eval to your range'
    )
