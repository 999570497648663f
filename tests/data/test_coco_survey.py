"""tools/prepare_data.py check of configs with data in COCO's format."""

from __future__ import annotations

import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import mmdet
import numpy as np
import pytest
from mmengine.config import Config
from PIL import Image
from pycocotools.coco import COCO

from moca.data.coco_survey import CocoSurvey, coco_survey
from moca.transfer.overrides import set_data_root
from tests.configs.helpers import REPOSITORY, write_coco
from tests.detection.bad_coco import TRAIN, VAL, edit, evaluable, messy
from tools.prepare_data import main

CONFIG = REPOSITORY / 'configs/detection/coco/mask-rcnn_1x.py'
MMDET = Path(mmdet.__file__).parent / '.mim/configs'


def check(root: Path, out: Path, config: Path = CONFIG) -> int:
    return main(['check', str(config), '--data-root', str(root), '--out', str(out), '--count', '2'])


def survey(root: Path) -> list[CocoSurvey]:
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, root)
    return coco_survey(cfg, lambda items, count, title: items)


def test_counts(tmp_path: Path, capsys: Any) -> None:
    root = write_coco(tmp_path / 'coco')
    assert check(root, tmp_path / 'sheet.png') == 0
    output = capsys.readouterr().out
    # persons of 32 x 64 and cars of 48 x 40: both of medium size
    for split, count in (('train', 4), ('val', 2)):
        row = rf'{split} +│ {count} +│ 128 x 96 +│ {2 * count} +│ 0 +│ 0 +│ 0% +│ 100% +│ 0% +│ 0 '
        assert re.search(row, output)
        assert f'{split}: 78 of 80 classes have no object: bicycle, motorcycle' in output
    assert re.search(r'│ 2 +│ car +│ +4 │ +4 │ +2 │ +2 │ █{20} │', output)
    # images of both splits with two colored objects each, in colors of their classes
    sheet = np.asarray(Image.open(tmp_path / 'sheet.png').convert('RGB')).astype(int)
    assert (np.ptp(sheet, axis=-1) > 60).mean() > 0.1


def test_sizes_are_coco_s(tmp_path: Path) -> None:
    root = write_coco(tmp_path / 'coco', train=6)
    random = np.random.default_rng(0)
    edit(
        root / TRAIN,
        lambda c: [r.update(area=float(random.uniform(1, 3e4))) for r in c['annotations']],
    )
    coco = COCO(root / TRAIN)
    limits = dict(small=[0, 32**2], medium=[32**2, 96**2], large=[96**2, 1e5**2])
    wanted = {name: len(coco.getAnnIds(areaRng=limit)) for name, limit in limits.items()}
    assert survey(root)[0].areas == wanted
    assert all(wanted.values())


def test_what_a_run_goes_on_with_is_counted(tmp_path: Path, capsys: Any) -> None:
    root = write_coco(tmp_path / 'coco', train=5, val=4)
    edit(root / TRAIN, messy)

    def more(content: dict[str, Any]) -> None:
        row = content['annotations'][0]
        flat = dict(row, id=90, segmentation=[[4, 4, 40, 40, 60, 60], *row['segmentation']])
        over = dict(row, id=91, bbox=[100, 8, 30, 64])
        rounded = dict(row, id=92, bbox=[100, 8, 28.5, 64])
        content['annotations'] += [flat, over, rounded]

    edit(root / TRAIN, more)
    edit(root / VAL, evaluable)
    assert check(root, tmp_path / 'sheet.png') == 0
    output = capsys.readouterr().out
    assert re.search(r'train +│ 5 +│ 128 x 96 +│ 5 +│ 1 +│ 2 +│', output)
    name = '00000000000'
    for text in (
        f'train: 1 annotations with a box or a mask of no area: 3 of {name}0.jpg',
        f'train: 1 annotations outside their image: 4 of {name}0.jpg',
        "train: 2 annotations of category 'unicorn', no class here: "
        f'5 of {name}0.jpg, 9 of {name}2.jpg',
        f'with a polygon of fewer than three points or half a point: 6 of {name}0.jpg',
        f'train: 1 annotations without a polygon of three points: 6 of {name}0.jpg',
        'train: 1 annotations of images that the file does not list: 7',
        f'train: 1 annotations with a polygon of no area: 90 of {name}0.jpg',
        f'train: 1 boxes that reach more than 1 pixel beyond their image: 91 of {name}0.jpg',
        f'train: 2 images without annotations: {name}3.jpg, {name}4.jpg',
        f'train: 1 images with crowds only: {name}1.jpg',
        f'train: 1 images all of whose annotations are left out: {name}2.jpg',
    ):
        assert text in output


def test_every_fault_at_once(tmp_path: Path, capsys: Any) -> None:
    root = write_coco(tmp_path / 'coco', train=6)
    images = sorted((root / 'train2017').iterdir())
    images[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:300])
    images[2].write_bytes(b'no image')
    turned = np.zeros((128, 96, 3), np.uint8)
    cv2.imwrite(str(images[3]), turned)

    def change(content: dict[str, Any]) -> None:
        rows = content['annotations']
        rows[8]['segmentation'] = dict(size=[128, 96], counts=[128 * 96])
        rows[9].pop('segmentation')
        rows[11]['id'] = rows[10]['id']
        content['images'].append(dict(content['images'][5]))

    edit(root / TRAIN, change)
    assert check(root, tmp_path / 'sheet.png') == 2
    captured = capsys.readouterr()
    assert '8 faults, of which the first is' in captured.err
    for text in (
        f'train: {root / TRAIN}: id 5 of images occurs twice.',
        f'train: {root / TRAIN}: id 11 of annotations occurs twice.',
        f'train: {root / TRAIN}: annotation 9 of {images[4].name}: its RLE mask needs',
        f'train: {root / TRAIN}: annotation 10 of {images[4].name} has no segmentation',
        f'train: {images[0]}: the file is missing',
        f'train: {images[1]}: a broken image',
        f'train: {images[2]}: a broken image',
        f'train: {images[3]}: 96 x 128 pixels, but its annotations are of 128 x 96',
    ):
        assert text in captured.out
    assert (tmp_path / 'sheet.png').is_file()


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (lambda c: c['annotations'].clear(), r'6 images and 0 annotations'),
        (
            lambda c: c['annotations'][3].update(bbox=[1, 2, 3]),
            r'annotations\[3\]\.bbox=\[1, 2, 3\]',
        ),
        (
            lambda c: c['annotations'][3].update(bbox=[1, 2, 3, float('nan')]),
            r'annotations\[3\]\.bbox=.*nan',
        ),
        (lambda c: c['annotations'][3].update(area=None), r'annotations\[3\]\.area=None: not a'),
        (lambda c: c['images'][2].update(width='64'), r"images\[2\]\.width='64': not a number"),
        (lambda c: c['images'][2].update(height=1e999), r'images\[2\]\.height=inf: not a num'),
        (
            lambda c: c['categories'].reverse(),
            r"label 0 is category 'toothbrush' there, but 'person'",
        ),
        (
            lambda c: c['categories'].append(dict(id=99, name='person')),
            r"label 80 is category 'person' there, but None",
        ),
        (lambda c: c.update(images=3), 'not a COCO instances file'),
    ],
)
def test_files_that_cannot_be_used(tmp_path: Path, capsys: Any, change: Any, message: str) -> None:
    root = write_coco(tmp_path / 'coco', train=6)
    edit(root / TRAIN, change)
    assert check(root, tmp_path / 'sheet.png') == 2
    captured = capsys.readouterr()
    assert re.search(f'{TRAIN}.*{message}', captured.err)
    assert re.search(r'val +│ 2 +│ 128 x 96', captured.out)  # the other file is looked at as well


def test_broken_masks_that_nothing_reads_are_not_drawn(tmp_path: Path, capsys: Any) -> None:
    root = write_coco(tmp_path / 'coco', train=2)

    masks = dict(size=[96, 128]), [[8, 8, 'x', 8, 40, 72]], [8, 8, 40, 72]
    rows = [dict(segmentation=mask) for mask in masks]
    edit(root / TRAIN, lambda c: [c['annotations'][i].update(row) for i, row in enumerate(rows)])
    config = tmp_path / 'boxes.py'
    model = 'model = dict(roi_head=dict(mask_head=None, mask_roi_extractor=None))'
    config.write_text(f"_base_ = '{CONFIG}'\n{model}\n")
    assert check(root, tmp_path / 'sheet.png', config) == 0
    output = ' '.join(capsys.readouterr().out.split())
    assert 'train: 3 annotations with a broken mask that nothing reads' in output
    assert (tmp_path / 'sheet.png').is_file()


def test_one_file_for_training_and_validation_is_looked_at_as_both(tmp_path: Path) -> None:
    """Evaluation stops at a polygon of two points that training leaves out."""
    root = write_coco(tmp_path / 'coco', train=4)
    edit(root / TRAIN, messy)
    cfg = Config.fromfile(CONFIG)
    cfg.val_dataloader.dataset.update(ann_file=TRAIN, data_prefix=dict(img='train2017'))
    cfg.test_dataloader.dataset.update(ann_file=TRAIN, data_prefix=dict(img='train2017/'))
    set_data_root(cfg, root)
    train, val = coco_survey(cfg, lambda items, count, title: items)
    assert not train.faults
    (fault,) = val.faults
    assert 'annotation 6' in fault
    cfg.val_dataloader.dataset.metainfo = dict(classes=('person', 'car'))
    assert len(coco_survey(cfg, lambda items, count, title: items)) == 3


@pytest.mark.parametrize(
    'name', ['faster_rcnn/faster-rcnn_r50_fpn_1x_coco', 'retinanet/retinanet_r50_fpn_1x_coco']
)
def test_configs_of_mmdet(tmp_path: Path, capsys: Any, name: str) -> None:
    """No protocol, no masks; heads of another number of classes in one stage or two."""
    root = write_coco(tmp_path / 'coco')
    edit(root / TRAIN, lambda c: [row.pop('segmentation') for row in c['annotations']])
    text = f"_base_ = '{MMDET / name}.py'\n"
    config = tmp_path / 'config.py'
    config.write_text(text)
    assert check(root, tmp_path / 'sheet.png', config) == 0
    head = 'bbox_head=dict(num_classes=3)'
    head = head if 'retina' in name else f'roi_head=dict({head})'
    config.write_text(f'{text}model = dict({head})\n')
    capsys.readouterr()
    assert check(root, tmp_path / 'sheet.png', config) == 2
    assert '80 classes, and heads of [3]' in capsys.readouterr().err


def test_a_data_set_of_both_libraries_name(tmp_path: Path, capsys: Any) -> None:
    """CityscapesDataset is mmdet's in a config of mmdet."""
    config = tmp_path / 'config.py'
    config.write_text(
        f"_base_ = '{MMDET}/_base_/datasets/cityscapes_detection.py'\ndefault_scope = 'mmdet'\n"
    )
    root = write_coco(tmp_path / 'coco')
    for split, ours in (('train', 'train2017'), ('val', 'val2017')):
        (root / 'leftImg8bit').mkdir(exist_ok=True)
        (root / ours).rename(root / 'leftImg8bit' / split)
        content = json.loads((root / f'annotations/instances_{ours}.json').read_text())
        names = ['person', 'rider', 'car', 'truck', 'bus', 'train', 'motorcycle', 'bicycle']
        content['categories'] = [dict(id=i + 1, name=name) for i, name in enumerate(names)]
        path = root / f'annotations/instancesonly_filtered_gtFine_{split}.json'
        path.write_text(json.dumps(content))
    assert check(root, tmp_path / 'sheet.png', config) == 0
    assert re.search(r'│ 2 +│ car +│ +4 │', capsys.readouterr().out)


def test_images_of_a_class_are_counted_once(tmp_path: Path) -> None:
    root = write_coco(tmp_path / 'coco')
    edit(root / TRAIN, lambda c: c['annotations'].append(dict(c['annotations'][0], id=99)))
    found = survey(root)[0]
    assert found.objects == Counter(person=5, car=4)
    assert found.images == Counter(person=4, car=4)


def test_turned_and_constant_images_are_counted(tmp_path: Path, capsys: Any) -> None:
    root = write_coco(tmp_path / 'coco', train=3)
    images = sorted((root / 'train2017').iterdir())
    note = Image.Exif()
    note[0x0112] = 3  # upside down: of the same size, so that no size tells of it
    Image.open(images[0]).save(images[0], exif=note)
    Image.new('RGB', (128, 96)).save(images[1])
    assert check(root, tmp_path / 'sheet.png') == 0
    said = capsys.readouterr().out
    turned = (
        'train: 1 images that EXIF says to turn; it is ignored, and labels are of stored pixels'
    )
    assert f'{turned}: {images[0].name}' in said
    assert f'train: 1 images of a single color: {images[1].name}' in said
    note[0x0112] = 6
    Image.open(images[0]).transpose(Image.Transpose.ROTATE_90).save(images[0], exif=note)
    assert check(root, tmp_path / 'sheet.png') == 2
    assert 'its EXIF orientation is 6, a quarter turn' in capsys.readouterr().err
