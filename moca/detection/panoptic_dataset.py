"""Data sets of panoptic segmentation for mmdet's pipelines, and the loading of their masks."""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from mmcv.transforms import BaseTransform
from mmdet.datasets import CocoPanopticDataset
from mmdet.datasets.base_det_dataset import BaseDetDataset
from mmdet.structures.bbox import HorizontalBoxes
from mmdet.structures.mask import BitmapMasks
from mmengine.registry import DATASETS, TRANSFORMS
from numpy.typing import NDArray

from moca.detection.panoptic_file import (
    PanopticFile,
    Segment,
    fault_of,
    read_ids,
    read_panoptic_file,
)
from moca.errors import UserError


@DATASETS.register_module()
class PanopticDataset(BaseDetDataset):
    """Images with segments of things and stuff, in COCO's panoptic format.

    mmdet's own needs panopticapi, which no registry has. Fields: ``ann_file``, the JSON file;
    ``data_prefix.img`` and ``data_prefix.seg``, the folders of images and of PNGs; of other data
    than COCO's ``metainfo=dict(thing_classes=..., stuff_classes=...)``. Labels number things first.
    ``filter_cfg.filter_empty_gt`` leaves out images without an object or stuff that is no crowd.

    Raises:
        UserError: The annotation file is malformed, or its categories are not the classes.
    """

    METAINFO = CocoPanopticDataset.METAINFO

    def load_data_list(self) -> list[dict[str, Any]]:
        """One dict an image: paths, size, and segments of id, label, and whether it is a crowd."""
        file = read_panoptic_file(self.ann_file)
        things, stuff = (tuple(self.metainfo.get(f'{kind}_classes') or ()) for kind in KINDS)
        self._metainfo['classes'] = things + stuff
        labels = labels_of(file, things, stuff)
        prefix = self.data_prefix
        return [
            dict(
                img_path=os.path.join(prefix['img'], image.file_name),
                img_id=image.id,
                seg_map_path=os.path.join(prefix['seg'], image.png),
                height=image.height,
                width=image.width,
                segments=[(s.id, labels[s.category], s.crowd) for s in image.segments],
                instances=[],
            )
            for image in file.images
        ]

    def filter_data(self) -> list[dict[str, Any]]:
        """Leave out images with nothing to learn, if ``filter_cfg`` asks for it."""
        if self.test_mode or not (self.filter_cfg or {}).get('filter_empty_gt'):
            return self.data_list
        kept = [row for row in self.data_list if any(not crowd for _, _, crowd in row['segments'])]
        if not kept:
            raise UserError(f'{self.ann_file}: no image has a segment that is no crowd.')
        return kept

    def get_cat_ids(self, idx: int) -> list[int]:
        """Labels of an image's segments, for samplers that balance classes."""
        return [label for _, label, _ in self.get_data_info(idx)['segments']]


KINDS = ('thing', 'stuff')


def labels_of(
    file: PanopticFile, things: tuple[str, ...], stuff: tuple[str, ...]
) -> dict[Any, int]:
    """The label of each category id: the place of its name among things, then stuff.

    Raises:
        UserError: Categories and classes are not the same, or differ in what is a thing.
    """
    classes = things + stuff
    remedy = 'Set metainfo.thing_classes and stuff_classes, and the numbers of the heads, to match.'
    labels = {}
    for row in file.categories:
        if row['name'] not in classes:
            raise UserError(f'{file.path}: category {row["name"]!r} is no class. {remedy}')
        label = classes.index(row['name'])
        if bool(row['isthing']) != (label < len(things)):
            kind, other = KINDS if row['isthing'] else KINDS[::-1]
            raise UserError(
                f'{file.path}: category {row["name"]!r} is of kind {kind}, the class of kind '
                f'{other}. {remedy}'
            )
        labels[row['id']] = label
    if absent := [name for name in classes if classes.index(name) not in labels.values()]:
        raise UserError(
            f'{file.path}: has no category {absent[0]!r} ({len(absent)} of {len(classes)} classes '
            f'are absent). {remedy}'
        )
    return labels


@TRANSFORMS.register_module()
class LoadPanopticMasks(BaseTransform):
    """Read the masks of a `PanopticDataset` into mmdet's instances, things and stuff alike.

    Adds ``gt_masks``, ``gt_bboxes``, ``gt_bboxes_labels`` and ``gt_ignore_flags`` (crowds).

    Raises:
        UserError: The PNG is unreadable, or disagrees with the annotation file.
    """

    def transform(self, results: dict[str, Any]) -> dict[str, Any]:
        """Add the masks of one image."""
        ids = read_ids(results['seg_map_path'])
        size = results['height'], results['width']
        segments = tuple(Segment(*row) for row in results['segments'])
        if fault := fault_of(ids, size, segments):
            raise UserError(f'{results["seg_map_path"]}: {fault}.')
        found = set(np.unique(ids).tolist())
        segments = tuple(segment for segment in segments if segment.id in found)
        masks = [(ids == segment.id).astype(np.uint8) for segment in segments]
        boxes = np.array([box_of(mask) for mask in masks], np.float32).reshape(-1, 4)
        labels = np.array([segment.category for segment in segments], np.int64)
        flags = np.array([segment.crowd for segment in segments], bool)
        results['gt_masks'] = BitmapMasks(masks, *size)
        results['gt_bboxes'] = HorizontalBoxes(boxes)
        results['gt_bboxes_labels'], results['gt_ignore_flags'] = labels, flags
        return results


def box_of(mask: NDArray[np.uint8]) -> tuple[int, int, int, int]:
    """Left, top, right and bottom of a mask that has pixels, the last two behind it."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1
