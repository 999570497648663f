"""Checks of COCO annotation files: what mmdet would leave out in silence, or fail on half-way."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from moca.data.coco import CROWD, OBJECT, CocoFile, duplicates, read_coco
from moca.data.coco_boxes import box_notes
from moca.data.coco_masks import classify, needs_mask
from moca.data.config_datasets import nested_dicts
from moca.errors import UserError
from moca.images.files import (
    SHOWN,
    require_files,
    require_folder,
    require_sizes,
    require_whole,
    unused_images,
)
from moca.images.listing import list_folder


def check_coco(cfg: Config, dataset: dict[str, Any], cls: Any, field: str) -> None:
    """Check a data set of COCO's format and log what is in it.

    Args:
        cfg: the run's; if its model has a mask head, every annotation needs a mask.
        dataset: config of the data set.
        cls: its class, mmdet's `CocoDataset` or one derived from it.
        field: where it stands in the config.

    Raises:
        UserError: naming the file and what is wrong in it.
    """
    file = read_coco(cfg, dataset, cls, field)
    for fault in (*duplicates(file), *heads_faults(cfg, file)):
        raise UserError(fault)
    if file.changes:
        print_log(f'{file.path}: read otherwise than written: {file.changes}', 'current')
    odd, faults = box_notes(file)
    for fault in faults:
        raise UserError(fault)
    print_log(_describe(file), 'current')
    for what, where in odd.items():
        shown = ', '.join(where[:SHOWN])
        print_log(f'{file.path}: {len(where):,} {what}, such as {shown}', 'current', level=30)
    files = [file.path_of(image) for image in file.images]
    require_files(files, f'listed in {file.path}')
    require_whole(files)
    require_sizes(files, [(image['height'], image['width']) for image in file.images])
    if left := unused_images(list_folder(require_folder(dataset, 'img', field)), files):
        print_log(left, 'current')


def heads_faults(cfg: Config, file: CocoFile) -> list[str]:
    """Say if heads are of another number of classes than the data set."""
    model = cfg.get('model') or {}
    counts = {head['num_classes'] for head in _heads(model) if 'num_classes' in head}
    if not counts - {len(file.classes)}:
        return []
    where = 'model.roi_head' if model.get('roi_head') else 'the model'
    return [
        f'{file.path}: {len(file.classes)} classes, and heads of {sorted(counts)}. Set num_classes '
        f'of every head of {where} to the number of classes, or metainfo.classes of every data '
        'set to those of the heads.'
    ]


def _heads(model: Any) -> Iterator[dict[str, Any]]:
    """Box and mask heads; others, such as those of region proposals, have classes of their own."""
    for node in nested_dicts(model):
        for name in ('bbox_head', 'mask_head'):
            yield from nested_dicts(node.get(name))


def _describe(file: CocoFile) -> str:
    """Look at every annotation as mmdet will; returns the counts as a text for the log."""
    images = {image['id']: image for image in file.images}
    kinds: Counter[str] = Counter()
    found: dict[int, set[str]] = {key: set() for key in images}
    for annotation in file.annotations:
        image = images.get(annotation['image_id'])
        kind, fault = classify(file, annotation, image)
        if fault and needs_mask(file, kind):
            raise UserError(fault)
        if image is not None:
            found[image['id']].add(kind)
        kinds[kind] += 1
    if not kinds[OBJECT] and file.annotations:
        raise UserError(
            f'{file.path}: none of its annotations is an object to be found: {_list(kinds)}.'
        )
    crowd_only = sum(CROWD in kinds_ and OBJECT not in kinds_ for kinds_ in found.values())
    empty = sum(not kinds_ & {CROWD, OBJECT} for kinds_ in found.values())
    odd = _list({k: n for k, n in kinds.items() if k not in (OBJECT, CROWD)})
    fate = (
        'evaluation counts those of its images and classes, as pycocotools does'
        if file.evaluated
        else 'none is trained on'
    )
    return (
        f'{file.path}: {len(images):,} images ({empty} without objects, {crowd_only} with crowds '
        f'only), {kinds[OBJECT]:,} objects, {kinds[CROWD]:,} crowds'
        + (f'; odd annotations: {odd} ({fate})' if odd else '')
    )


def _list(kinds: Mapping[str, int]) -> str:
    return ', '.join(f'{kind}: {count:,}' for kind, count in kinds.items() if count)
