"""Checks of COCO annotation files: what mmdet would leave out in silence, or fail on half-way."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from moca.errors import UserError
from moca.transfer.files import SHOWN, dataset_path, require_files, require_folder, require_whole
from moca.transfer.overrides import nested_dicts

_CROWD = 'crowds'
_OBJECT = 'objects'
# Reasons for which mmdet's CocoDataset leaves an annotation out or ignores it.
_NO_PICTURE = 'of pictures that the file does not list'
_MARKED = 'marked to be ignored'
_NO_AREA = 'with a box or a mask of no area'
_OUTSIDE = 'outside their picture'
_OTHER = 'of categories that are no classes here'
_NO_POLYGON = 'without a polygon of three points'


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
    folder = require_folder(dataset, 'img', field)
    path = dataset_path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.ann_file).')
    content = _read(path)
    images, annotations = content['images'], content['annotations']
    if not images or not annotations:
        raise UserError(f'{path}: {len(images)} images and {len(annotations)} annotations.')
    names = {category['id']: category['name'] for category in content['categories']}
    classes = _classes(dataset, cls, list(names.values()), path, field)
    _check_heads(cfg, len(classes), path)
    masks = any('mask_head' in node for node in nested_dicts(cfg.get('model')))
    known = {key for key, name in names.items() if name in classes}
    print_log(_describe(path, content, known, masks, bool(dataset.get('test_mode'))), 'current')
    files = [folder / image['file_name'] for image in images]
    require_files(files, f'listed in {path}')
    require_whole(files)


def _read(path: Path) -> dict[str, list[dict[str, Any]]]:
    needed = {
        'images': ('id', 'file_name', 'height', 'width'),
        'categories': ('id', 'name'),
        'annotations': ('id', 'image_id', 'category_id', 'bbox', 'area'),
    }
    try:
        content = json.loads(path.read_bytes())
        parts = {name: content[name] for name in needed}
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(
            f'{path}: not a COCO instances file ({type(error).__name__}: {error}). It needs '
            "'images' with file_name, 'annotations' and 'categories' with name."
        ) from error
    for name, keys in needed.items():
        for place, row in enumerate(parts[name]):
            absent = [key for key in keys if key not in row]
            if absent:
                raise UserError(f'{path}: {name}[{place}] has no {", ".join(absent)}.')
        ids = Counter(row['id'] for row in parts[name])
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            raise UserError(f'{path}: {len(twice)} ids of {name} occur twice, such as {twice[0]}.')
    return parts


def _classes(
    dataset: dict[str, Any], cls: Any, categories: list[str], path: Path, field: str
) -> tuple[str, ...]:
    classes = (dataset.get('metainfo') or {}).get('classes') or cls.METAINFO.get('classes') or ()
    classes = (classes,) if isinstance(classes, str) else tuple(classes)
    absent = [name for name in classes if name not in categories]
    if absent:
        # mmdet numbers the classes that it finds, so that one that is absent shifts the others.
        raise UserError(
            f'{path}: has no category {absent[0]!r} ({len(absent)} of {len(classes)} classes of '
            f'{field} are absent). It has {categories[:SHOWN]} ...; set metainfo.classes '
            'and the num_classes of the heads to the classes of the file.'
        )
    return classes


def _check_heads(cfg: Config, classes: int, path: Path) -> None:
    roi_head = (cfg.get('model') or {}).get('roi_head')
    counts = {node['num_classes'] for node in nested_dicts(roi_head) if 'num_classes' in node}
    if counts - {classes}:
        raise UserError(
            f'{path}: {classes} classes, and heads of {sorted(counts)}. Set num_classes of every '
            'head of model.roi_head to the number of classes, or metainfo.classes of every data '
            'set to those of the heads.'
        )


def _describe(
    path: Path,
    content: dict[str, list[dict[str, Any]]],
    known: set[int],
    masks: bool,
    evaluated: bool,
) -> str:
    """Look at every annotation as mmdet will; returns the counts as a text for the log."""
    images = {image['id']: image for image in content['images']}
    kinds: Counter[str] = Counter()
    found: dict[int, set[str]] = {key: set() for key in images}
    for annotation in content['annotations']:
        image = images.get(annotation['image_id'])
        kind = _NO_PICTURE if image is None else _kind(annotation, image, known)
        if image is not None:
            # pycocotools takes what mmdet's data set leaves out, as long as the class is known
            if masks and (kind in (_OBJECT, _CROWD) or (evaluated and kind != _OTHER)):
                kind = _check_mask(annotation, image, kind, path, evaluated)
            found[image['id']].add(kind)
        kinds[kind] += 1
    if not kinds[_OBJECT]:
        raise UserError(
            f'{path}: none of its annotations is an object to be found: {_list(kinds)}.'
        )
    crowd_only = sum(_CROWD in kinds_ and _OBJECT not in kinds_ for kinds_ in found.values())
    empty = sum(not kinds_ & {_CROWD, _OBJECT} for kinds_ in found.values())
    odd = _list({k: n for k, n in kinds.items() if k not in (_OBJECT, _CROWD)})
    fate = (
        'evaluation counts those of its pictures and classes, as pycocotools does'
        if evaluated
        else 'none is trained on'
    )
    return (
        f'{path}: {len(images):,} pictures ({empty} without objects, {crowd_only} with crowds '
        f'only), {kinds[_OBJECT]:,} objects, {kinds[_CROWD]:,} crowds'
        + (f'; odd annotations: {odd} ({fate})' if odd else '')
    )


def _kind(annotation: dict[str, Any], image: dict[str, Any], known: set[int]) -> str:
    """What mmdet's CocoDataset.parse_data_info makes of an annotation, in its order."""
    x, y, width, height = annotation['bbox']
    if annotation.get('ignore'):
        return _MARKED
    if width < 1 or height < 1 or annotation['area'] <= 0:
        return _NO_AREA
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return _OUTSIDE
    if annotation['category_id'] not in known:
        return _OTHER
    return _CROWD if annotation.get('iscrowd') else _OBJECT


def _check_mask(
    annotation: dict[str, Any], image: dict[str, Any], kind: str, path: Path, evaluated: bool
) -> str:
    """Check polygons or RLE of an annotation that is used; returns its kind."""
    mask = annotation.get('segmentation')
    where = f'{path}: annotation {annotation["id"]} of {image["file_name"]}'
    if not mask:
        raise UserError(
            f'{where} has no segmentation, and the model has a mask head. Give every object a '
            'mask, or remove mask_head and mask_roi_extractor from the model (None), with_mask '
            "from the pipeline and 'segm' from the evaluators."
        )
    if isinstance(mask, list):
        if evaluated and len(mask[0]) < 5:  # pycocotools takes 4 numbers for a box, and fails
            raise UserError(
                f'{where} has a polygon of fewer than three points, on which evaluation would '
                'fail. Remove or repair it.'
            )
        whole = any(len(polygon) % 2 == 0 and len(polygon) >= 6 for polygon in mask)
        return kind if whole else _NO_POLYGON
    size = [image['height'], image['width']]
    if not isinstance(mask, Mapping) or 'counts' not in mask or list(mask.get('size', ())) != size:
        raise UserError(
            f'{where}: its RLE mask needs counts and the size of the picture, {size} (height, '
            'width).'
        )
    return kind


def _list(kinds: Mapping[str, int]) -> str:
    return ', '.join(f'{kind}: {count:,}' for kind, count in kinds.items() if count)
