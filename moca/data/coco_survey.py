"""Looking at every image and annotation of a config's COCO data sets, and counting them."""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import mmdet.datasets
from mmengine.config import Config

from moca.data.coco import CROWD, OBJECT, CocoFile, duplicates, read_coco
from moca.data.coco_boxes import box_notes, repeated
from moca.data.coco_check import heads_faults
from moca.data.coco_limits import limits_note
from moca.data.coco_masks import broken_polygons, classify, flat_polygons, needs_mask
from moca.data.config_datasets import dataset_key, datasets_of
from moca.data.survey import Watch
from moca.errors import UserError
from moca.images.inspection import Inspection, inspect

_THREADS = 8
# COCO's own limits, in pixels of area: pycocotools, cocoeval.py, areaRng
_SMALL, _MEDIUM = 32**2, 96**2
# Annotators' boxes reach over the edge by a rounding; more is worth a word [our choice, pixels].
_OVER_EDGE = 1


@dataclass
class CocoSurvey:
    """What one data set holds.

    Attributes:
        name: of its data loader, train, val or test.
        file: its annotations; None if they could not be read.
        sizes: how many images are of a size (width, height).
        kinds: how many annotations are objects, crowds, or left out for which reason.
        odd: where something is odd though no run stops at it, by what it is.
        objects: of each class.
        images: with objects of each class.
        areas: how many objects are small, medium and large, as COCO's metric has it.
        notes: what else its owner should know.
        contents: fingerprints of the image files, with their names.
        runs: masks that are run lengths, not polygons.
        faults: what a run would stumble over, each text naming its file.
        right: indices of the images without a fault that have objects.
    """

    name: str
    file: CocoFile | None = None
    sizes: Counter[tuple[int, int]] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    odd: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    objects: Counter[str] = field(default_factory=Counter)
    images: Counter[str] = field(default_factory=Counter)
    areas: Counter[str] = field(default_factory=Counter)
    notes: list[str] = field(default_factory=list)
    contents: dict[bytes, str] = field(default_factory=dict)
    runs: int = 0
    faults: list[str] = field(default_factory=list)
    right: list[int] = field(default_factory=list)


def coco_datasets(cfg: Config) -> Iterator[tuple[str, dict[str, Any], type]]:
    """Yield (field, config, class) of every data set of COCO's format of the data loaders."""
    return datasets_of(cfg, mmdet.datasets.CocoDataset)


def coco_survey(cfg: Config, watch: Watch) -> list[CocoSurvey]:
    """Look at every file of the COCO data sets of a config, each data set once.

    Every image is decoded: this takes minutes where `check_data` takes seconds.
    """
    found: list[CocoSurvey] = []
    seen: list[Any] = []
    for name, dataset, cls in coco_datasets(cfg):
        about = dataset_key(dataset)
        if about not in seen:
            seen.append(about)
            found.append(_survey(cfg, name, dataset, cls, watch))
    _compare_with_training(found)
    return found


def _compare_with_training(surveys: list[CocoSurvey]) -> None:
    """Name the images of validation and test sets that are trained on as well."""
    trained = {key for survey in surveys if survey.name == 'train' for key in survey.contents}
    for survey in surveys:
        if survey.name != 'train':
            shared = [name for key, name in survey.contents.items() if key in trained]
            if shared:
                survey.odd['images that are in train as well'] += shared


def _survey(cfg: Config, name: str, dataset: Any, cls: type, watch: Watch) -> CocoSurvey:
    result = CocoSurvey(name.split('_')[0])
    try:
        file = result.file = read_coco(cfg, dataset, cls, name)
    except UserError as error:
        result.faults.append(str(error))
        return result
    result.faults += [*duplicates(file), *heads_faults(cfg, file)]
    if file.changes:
        result.notes.append(f'read otherwise than written: {file.changes}')
    faulty: set[Any] = set()
    kinds = _look_at_annotations(result, file, faulty)
    _look_at_the_whole(result, cfg, file)
    with ThreadPoolExecutor(_THREADS) as pool:
        inspected = pool.map(lambda image: _inspect(file.path_of(image), image), file.images)
        found = watch(inspected, len(file.images), result.name)
        for place, (about, fault, content) in enumerate(found):
            image = file.images[place]
            if content:
                result.contents[content] = image['file_name']
            if about.width:
                result.sizes[about.width, about.height] += 1
            for what in about.oddities():
                result.odd[what].append(image['file_name'])
            if fault is not None:
                result.faults.append(fault)
            elif kinds[image['id']][OBJECT] and image['id'] not in faulty:
                result.right.append(place)
    return result


def _look_at_the_whole(result: CocoSurvey, cfg: Config, file: CocoFile) -> None:
    """Note what only shows when annotations are seen beside each other."""
    odd, faults = box_notes(file)
    for what, where in (odd | repeated(file)).items():
        result.odd[what] += where
    result.faults = [*faults, *result.faults]  # what explains others comes first
    note = limits_note(cfg, file)
    if note and file.evaluated:
        result.notes.append(note)


def _inspect(path: Path, image: dict[str, Any]) -> tuple[Inspection, str | None, bytes]:
    """Return what an image is, as far as known, its fault, and a fingerprint of its file."""
    if not path.is_file():
        return Inspection(), f'{path}: the file is missing.', b''
    about = inspect(path)
    if about.damage:
        return Inspection(), f'{path}: a broken image ({about.damage}).', b''
    with path.open('rb') as opened:
        content = hashlib.file_digest(opened, 'blake2b').digest()
    width, height = image['width'], image['height']
    if (about.width, about.height) != (width, height):
        note = about.size_note(height, width) or ': give the image that was annotated'
        fault = (
            f'{path}: {about.width} x {about.height} pixels, but its annotations are of '
            f'{width} x {height}{note}.'
        )
        return about, fault, content
    return about, None, content


def _look_at_annotations(
    result: CocoSurvey, file: CocoFile, faulty: set[Any]
) -> dict[Any, Counter[str]]:
    """Count annotations; returns how many of which kind each image has, by its id.

    Images with a fault in an annotation are added to `faulty`.
    """
    images = {image['id']: image for image in file.images}
    found: dict[Any, Counter[str]] = {key: Counter() for key in images}
    classes: dict[Any, set[str]] = defaultdict(set)
    for annotation in file.annotations:
        image = images.get(annotation['image_id'])
        kind, fault = classify(file, annotation, image)
        if image is None:
            result.odd[f'annotations {kind}'].append(file.name_of(annotation))
        else:
            _look(result, file, annotation, image, kind, fault)
            if fault and needs_mask(file, kind):
                faulty.add(image['id'])
            found[image['id']][kind] += 1
        result.kinds[kind] += 1
        if kind == OBJECT:
            name = file.categories[annotation['category_id']]
            result.objects[name] += 1
            classes[annotation['image_id']].add(name)
            result.areas[_size_of(annotation['area'])] += 1
    for names in classes.values():
        result.images.update(names)
    _look_at_images(result, images, found)
    if not result.kinds[OBJECT] and file.annotations:
        result.faults.append(f'{file.path}: none of its annotations is an object to be found.')
    return found


def _look_at_images(
    result: CocoSurvey, images: dict[Any, dict[str, Any]], found: dict[Any, Counter[str]]
) -> None:
    """Note the images without an object."""
    for key, kinds in found.items():
        if not kinds:
            what = 'images without annotations'
        elif kinds[CROWD] and not kinds[OBJECT]:
            what = 'images with crowds only'
        elif not kinds[OBJECT]:
            what = 'images all of whose annotations are left out'
        else:
            continue
        result.odd[what].append(images[key]['file_name'])


def _look(
    result: CocoSurvey,
    file: CocoFile,
    annotation: dict[str, Any],
    image: dict[str, Any],
    kind: str,
    fault: str | None,
) -> None:
    """Note what is odd about one annotation of an image, or wrong."""
    where = f'{file.name_of(annotation)} of {image["file_name"]}'
    mask = annotation.get('segmentation')
    if fault is None and mask:
        result.runs += not isinstance(mask, list)
        if broken_polygons(mask):
            what = 'annotations with a polygon of fewer than three points or half a point'
            result.odd[what].append(where)
        if flat_polygons(mask):
            result.odd['annotations with a polygon of no area'].append(where)
    elif fault is not None and needs_mask(file, kind):
        result.faults.append(fault)
    elif fault is not None:
        result.odd['annotations with a broken mask that nothing reads'].append(where)
    if kind not in (OBJECT, CROWD):
        what = kind
        if annotation['category_id'] not in file.known:
            name = file.categories.get(annotation['category_id'])
            what = f'of category {name or annotation["category_id"]!r}, no class here'
        result.odd[f'annotations {what}'].append(where)
    elif _over_edge(annotation['bbox'], image) > _OVER_EDGE:
        what = f'boxes that reach more than {_OVER_EDGE} pixel beyond their image'
        result.odd[what].append(where)


def _over_edge(box: list[float], image: dict[str, Any]) -> float:
    x, y, width, height = box
    return max(-x, -y, x + width - image['width'], y + height - image['height'])


def _size_of(area: float) -> str:
    return 'small' if area < _SMALL else 'medium' if area < _MEDIUM else 'large'
