"""COCO annotation files of a config, and what mmdet and pycocotools make of an annotation."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.data.config_datasets import nested_dicts
from moca.detection.annotation_file import read_annotation_file
from moca.errors import UserError
from moca.images.files import SHOWN, dataset_path, require_folder

CROWD = 'crowds'
OBJECT = 'objects'
# Reasons for which mmdet's CocoDataset leaves an annotation out or ignores it.
NO_IMAGE = 'of images that the file does not list'
MARKED = 'marked to be ignored'
NO_AREA = 'with a box or a mask of no area'
AREA_ZERO = "whose 'area' is 0 or less though their box has one"
OUTSIDE = 'outside their image'
OTHER = 'of categories that are no classes here'
NO_POLYGON = 'without a polygon of three points'


@dataclass(frozen=True)
class CocoFile:
    """An annotation file of COCO's format, as one data set of a config reads it.

    Attributes:
        path: of the file.
        folder: of its images.
        images, annotations: its rows.
        categories: names of its categories by their id.
        classes: names of the data set's classes, in the order of their labels.
        masks: whether the model has a mask head, and every annotation needs a mask.
        evaluated: whether it is for evaluation, which takes what training leaves out.
        submitted: whether predictions are only written, so that annotations may be absent.
        written: ids of annotations as the file writes them, where they were numbered anew.
        changes: what was read otherwise than it is written, with counts; perhaps empty.
    """

    path: Path
    folder: Path
    images: list[dict[str, Any]]
    annotations: list[dict[str, Any]]
    categories: dict[int, str]
    classes: tuple[str, ...]
    masks: bool
    evaluated: bool
    submitted: bool = False
    written: Mapping[int, Any] = field(default_factory=dict)
    changes: str = ''

    @cached_property
    def known(self) -> set[int]:
        """Ids of the categories that are classes."""
        return {key for key, name in self.categories.items() if name in self.classes}

    def path_of(self, image: Mapping[str, Any]) -> Path:
        """The file of one of the images."""
        return self.folder / image['file_name']

    def name_of(self, annotation: Mapping[str, Any]) -> str:
        """The id of one of the annotations, as the file writes it."""
        return str(self.written.get(annotation['id'], annotation['id']))


def read_coco(cfg: Config, dataset: dict[str, Any], cls: Any, field: str) -> CocoFile:
    """Read the annotation file of a data set, whose rows have all that is needed.

    Args:
        cfg: the run's, whose model may have a mask head.
        dataset: config of the data set.
        cls: its class, mmdet's `CocoDataset` or one derived from it.
        field: where it stands in the config.

    Raises:
        UserError: naming the folder or file that is missing, or what the file lacks.
    """
    folder = require_folder(dataset, 'img', field)
    path = dataset_path(dataset, dataset['ann_file'])
    if not path.is_file():
        raise UserError(f'{path}: no such annotation file ({field}.ann_file).')
    content = read_annotation_file(path)
    images, annotations = content.images, content.annotations
    submitted = _is_submission(cfg, field)
    if not images or not (annotations or submitted):
        hint = ''
        if images and field.startswith('test'):
            hint = (
                ' To write predictions of unlabeled images, give --cfg-options '
                'test_evaluator.format_only=True test_evaluator.outfile_prefix=FILE.'
            )
        raise UserError(f'{path}: {len(images)} images and {len(annotations)} annotations.{hint}')
    for place, image in enumerate(images):
        if not image.get('file_name'):
            raise UserError(f'{path}: images[{place}] has no file_name.')
    categories = {category['id']: category['name'] for category in content.categories}
    return CocoFile(
        path=path,
        folder=folder,
        images=images,
        annotations=annotations,
        categories=categories,
        classes=_classes(dataset, cls, list(categories.values()), path, field),
        masks=any(node.get('mask_head') for node in nested_dicts(cfg.get('model'))),
        evaluated=bool(dataset.get('test_mode')),
        submitted=submitted,
        written=content.written.get('annotations', {}),
        changes=content.describe_changes(),
    )


def _is_submission(cfg: Config, field: str) -> bool:
    """Whether the evaluator of a split only writes predictions.

    Raises:
        UserError: if it does not know where to.
    """
    split = field.split('_')[0]
    evaluators = [
        node for node in nested_dicts(cfg.get(f'{split}_evaluator')) if node.get('format_only')
    ]
    if any(not node.get('outfile_prefix') for node in evaluators):
        raise UserError(
            f'{cfg.filename}: {split}_evaluator.format_only needs outfile_prefix, the beginning of '
            'the names of the files to write.'
        )
    return bool(evaluators)


def _classes(
    dataset: dict[str, Any], cls: Any, categories: list[str], path: Path, field: str
) -> tuple[str, ...]:
    classes = (dataset.get('metainfo') or {}).get('classes') or cls.METAINFO.get('classes') or ()
    if isinstance(classes, str):  # a file with one a line, or one class
        named = Path(classes)
        classes = named.read_text().split('\n') if named.is_file() else [classes]
    classes = tuple(name for name in classes if name)
    absent = [name for name in classes if name not in categories]
    if absent:
        # mmdet numbers the classes that it finds, so that one that is absent shifts the others.
        raise UserError(
            f'{path}: has no category {absent[0]!r} ({len(absent)} of {len(classes)} classes of '
            f'{field} are absent). It has {categories[:SHOWN]} ...; set metainfo.classes '
            'and the num_classes of the heads to the classes of the file.'
        )
    ordered = tuple(name for name in categories if name in classes)
    if ordered != classes:
        # mmdet's labels follow the file, its names the config; two files could even disagree.
        place = next(i for i in range(len(ordered)) if ordered[i] != (*classes, None)[i])
        raise UserError(
            f'{path}: label {place} is category {ordered[place]!r} there, but '
            f'{(*classes, None)[place]!r} in metainfo.classes of {field}. mmdet numbers classes '
            'as the file lists its categories: list both in the same order, and each name once.'
        )
    return classes


def duplicates(file: CocoFile) -> list[str]:
    """Say which ids occur twice; mmdet would stop at some of them and mix up the others.

    Categories of the same id are merged on reading, so they are not counted here.
    """
    texts = []
    for name, rows in (('images', file.images), ('annotations', file.annotations)):
        ids = Counter(row['id'] for row in rows)
        twice = [key for key, count in ids.items() if count > 1]
        if twice:
            first = file.written.get(twice[0], twice[0]) if name == 'annotations' else twice[0]
            several = f', one of {len(twice)} such ids' if len(twice) > 1 else ''
            texts.append(f'{file.path}: id {first} of {name} occurs twice{several}.')
    return texts


def kind_of(annotation: dict[str, Any], image: dict[str, Any], known: set[int]) -> str:
    """What mmdet's CocoDataset.parse_data_info makes of an annotation, in its order."""
    x, y, width, height = annotation['bbox']
    if annotation.get('ignore'):
        return MARKED
    if width < 1 or height < 1:
        return NO_AREA
    if annotation['area'] <= 0:
        return AREA_ZERO
    if min(x + width, image['width']) <= max(x, 0) or min(y + height, image['height']) <= max(y, 0):
        return OUTSIDE
    if annotation['category_id'] not in known:
        return OTHER
    return CROWD if annotation.get('iscrowd') else OBJECT
