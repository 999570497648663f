"""Damaged label maps, and COCO's annotation files and panoptic ones: read alike, or refused."""

from __future__ import annotations

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from moca.data import survey
from moca.detection.panoptic_dataset import LoadPanopticMasks, PanopticDataset
from moca.detection.panoptic_file import read_ids, write_ids
from moca.errors import UserError
from moca.images.png import png_fault
from moca.segmentation.loading import LoadCheckedAnnotations
from moca.transfer.overrides import set_data_root
from moca.transfer.protocol import check_segmentation, read_by_one_reader
from tests import odd_files
from tests.campaign.campaign import Outcome
from tests.campaign.damage import Draw, broken, edit, garble, refused, write_json
from tests.configs.helpers import REPOSITORY
from tests.detection import own_coco
from tests.test_odd_files import read_all

NOISE = np.random.default_rng(0).integers(0, 3, odd_files.SIZE[::-1]).astype(np.uint8)


@functools.cache
def _probe() -> str:
    cfg = Config.fromfile(REPOSITORY / 'configs/segmentation/driving/linear-bn.py')
    return str(cfg.pretty_text)


def coco(draw: Draw, folder: Path) -> Outcome:
    """An annotation file of boxes and polygons, edited or with damaged bytes."""
    init_default_scope('mmdet')
    root = own_coco.write(folder / 'coco')
    path = root / 'annotations/train.json'
    kind = f'annotations, {_damage_json(path, draw)}'
    cfg = own_coco.config(root)
    try:
        survey.check_data(cfg, splits=('train',))
    except UserError as error:
        return refused(kind, error, root)
    try:
        read_all(cfg.train_dataloader.dataset, 2)  # what is accepted can be read
    except Exception as error:
        return broken(kind, error)
    return Outcome(kind, 'accepted')


def _damage_json(path: Path, draw: Draw) -> str:
    if draw.random() < 0.2:
        data = bytearray(path.read_bytes())
        kind = garble(data, draw)
        path.write_bytes(data)
        return kind
    content = json.loads(path.read_text())
    kind = edit(content, draw)
    write_json(content, path)
    return kind


def label_map(draw: Draw, folder: Path) -> Outcome:
    """A label map of some kind of pixels and format, with damaged bytes."""
    form = draw.choice(('PNG', 'PNG', 'PNG', 'TIFF', 'BMP', 'GIF', 'WEBP'))
    mode = draw.choice(('L', 'L', 'P', '1', 'I;16', 'I'))
    values = NOISE.astype(np.uint16) if mode == 'I;16' else NOISE
    whole = odd_files.encode(Image.fromarray(values).convert(mode), form)
    if whole is None:
        return label_map(draw, folder)
    init_default_scope('mmseg')  # a tool runs but one config
    root = folder / 'street'
    for split in ('train', 'val'):
        for place in ('leftImg8bit', 'gtFine'):
            (root / place / split / 'a').mkdir(parents=True)
        odd_files.pixels().save(root / f'leftImg8bit/{split}/a/a_0_leftImg8bit.png')
    path = root / 'gtFine/train/a/a_0_gtFine_labelTrainIds.png'
    path.write_bytes(whole)
    cfg = Config.fromstring(_probe(), '.py')
    set_data_root(cfg, root)
    check_segmentation(cfg)
    read_by_one_reader(cfg)

    def read() -> Any:
        survey.check_data(cfg, splits=('train',))
        step = LoadCheckedAnnotations(num_classes=19)
        about = dict(seg_map_path=str(path), seg_fields=[], ori_shape=NOISE.shape)
        return step.transform({**about, 'reduce_zero_label': False})['gt_seg_map']

    try:
        truth = read()
    except UserError as error:
        return refused('label map, whole', error, path)
    data = bytearray(whole)
    kind = f'label map, {garble(data, draw)}'
    path.write_bytes(data)
    try:
        found = read()
    except UserError as error:
        return refused(kind, error, path)
    return _compared(kind, found, truth, form, bytes(data))


def _compared(kind: str, found: Any, truth: Any, form: str, data: bytes) -> Outcome:
    if found.shape == truth.shape and np.array_equal(found, truth):
        return Outcome(kind, 'equal')
    if kind.endswith('truncated') or png_fault(data):
        return Outcome(kind, 'silent', f'{form}: read otherwise')
    return Outcome(kind, 'beyond telling', form)


CLASSES = dict(thing_classes=('cat', 'dog'), stuff_classes=('grass',))


def _write_panoptic(root: Path) -> dict[str, Any]:
    """Two images of 24 x 16 with a cat, a crowd of dogs, grass and void; returns a data set."""
    (root / 'images').mkdir(parents=True)
    (root / 'masks').mkdir()
    images, annotations = [], []
    for number in range(2):
        ids = np.full((16, 24), 70_000 + number, np.int32)
        ids[:2] = 0
        ids[4:9, 2 : 8 + number], ids[10:, 15:] = 256**3 - 1, 258
        write_ids(root / f'masks/{number}.png', ids)
        Image.new('RGB', (24, 16)).save(root / f'images/{number}.png')
        images.append(dict(id=number, file_name=f'{number}.png', height=16, width=24))
        rows = ((256**3 - 1, 3, 0), (258, 5, 1), (70_000 + number, 7, 0))
        segments = [dict(id=a, category_id=b, iscrowd=c) for a, b, c in rows]
        annotations.append(dict(image_id=number, file_name=f'{number}.png', segments_info=segments))
    kinds = ((7, 'grass', 0), (3, 'cat', 1), (5, 'dog', 1))
    categories = [dict(id=a, name=b, isthing=c) for a, b, c in kinds]
    content = dict(images=images, annotations=annotations, categories=categories)
    (root / 'a.json').write_text(json.dumps(content))
    prefix = dict(img='images', seg='masks')
    return dict(data_root=str(root), ann_file='a.json', data_prefix=prefix, metainfo=CLASSES)


def panoptic(draw: Draw, folder: Path) -> Outcome:
    """A panoptic JSON file, edited or with damaged bytes, or one of its PNGs, damaged."""
    root = folder / 'panoptic'
    fields = _write_panoptic(root)
    png = root / 'masks/0.png'
    truth, in_png = read_ids(png), draw.random() < 0.3
    if in_png:
        data = bytearray(png.read_bytes())
        kind = f'panoptic PNG, {garble(data, draw)}'
        png.write_bytes(data)
    else:
        kind = f'panoptic JSON, {_damage_json(root / "a.json", draw)}'
    loader = dict(dataset=dict(type=PanopticDataset, **fields))
    try:
        survey.check_data(Config(dict(train_dataloader=loader, model={})), splits=('train',))
        data_set, load = PanopticDataset(**fields, pipeline=[]), LoadPanopticMasks()
        for place in range(len(data_set)):
            load.transform(data_set.get_data_info(place))
    except UserError as error:
        return refused(kind, error, root)
    except Exception as error:
        return broken(kind, error)
    if in_png:
        return _compared(kind, read_ids(png), truth, 'PNG', png.read_bytes())
    return Outcome(kind, 'accepted')
