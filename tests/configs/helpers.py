"""Tiny data in real formats, and full configs at toy size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from mmdet.datasets import CocoDataset, CocoPanopticDataset
from mmengine.config import Config

from moca.detection.panoptic_file import write_ids
from moca.transfer.overrides import set_arch
from tests.depth.rooms import write_rooms
from tools.train import parse_args

REPOSITORY = Path(__file__).parents[2]
TINY_ARCH = dict(patch_size=16, embed_dim=32, depth=4, num_heads=2, img_size=32)
# Backbones of other kinds than the configs' own: they have no position embedding, or fewer tokens;
# the last one has images that are normalized otherwise.
OTHER_VITS: dict[str, dict[str, Any]] = {
    'rotary': dict(
        TINY_ARCH,
        **dict(rope=dict(base=100.0), reg_tokens=4, norm_eps=1e-5, mlp='swiglu', mlp_hidden=48),
    ),
    'no class token': dict(TINY_ARCH, class_token=False),
    'other statistics': TINY_ARCH,
}

# Fields that hold sizes in pixels, anywhere in a config.
_SIZES = ('size', 'scale', 'crop_size', 'stride', 'img_size', 'pad_size_divisor')


def write_cityscapes(root: Path, train: int = 4, val: int = 2) -> Path:
    """Write images of 128 x 64 with labels road, car and ignored, in Cityscapes' layout."""
    random = np.random.default_rng(0)
    for split, count in (('train', train), ('val', val)):
        images = root / 'leftImg8bit' / split / 'aachen'
        labels = root / 'gtFine' / split / 'aachen'
        images.mkdir(parents=True)
        labels.mkdir(parents=True)
        for index in range(count):
            label = np.zeros((64, 128), np.uint8)
            x = int(random.integers(0, 64))
            label[16:48, x : x + 48] = 13
            label[:8] = 255
            image = random.integers(0, 60, (64, 128, 3), dtype=np.uint8)
            image[label == 13] += 150
            name = f'aachen_{index:06d}_000019'
            cv2.imwrite(str(images / f'{name}_leftImg8bit.png'), image)
            cv2.imwrite(str(labels / f'{name}_gtFine_labelTrainIds.png'), label)
    return root


def write_ade20k(root: Path, train: int = 4, val: int = 2) -> Path:
    """Write images of 96 x 64 of wall (1), flag (150) and other (0), as ADE20K has it."""
    random = np.random.default_rng(0)
    for split, count in (('training', train), ('validation', val)):
        for part in ('images', 'annotations'):
            (root / part / split).mkdir(parents=True)
        for index in range(count):
            label = np.ones((64, 96), np.uint8)
            x = int(random.integers(0, 48))
            label[16:48, x : x + 36] = 150
            label[:8] = 0
            image = random.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            image[label == 150] += 150
            name = f'ADE_{split[:5]}_{index:08d}'
            cv2.imwrite(str(root / 'images' / split / f'{name}.jpg'), image)
            cv2.imwrite(str(root / 'annotations' / split / f'{name}.png'), label)
    return root


def write_voc(root: Path, train: int = 4, val: int = 2) -> Path:
    """Write images of 96 x 64 of background (0), tvmonitor (20) and void, in VOC2012's layout."""
    random = np.random.default_rng(0)
    lists = root / 'ImageSets' / 'Segmentation'
    for part in ('JPEGImages', 'SegmentationClass', 'SegmentationClassAug'):
        (root / part).mkdir(parents=True)
    lists.mkdir(parents=True)
    for split, folder, count in (
        ('trainaug', 'SegmentationClassAug', train),
        ('val', 'SegmentationClass', val),
    ):
        names = [f'2007_{split[0]}{index:05d}' for index in range(count)]
        for name in names:
            label = np.zeros((64, 96), np.uint8)
            x = int(random.integers(0, 48))
            label[16:48, x : x + 36] = 20
            label[:8] = 255
            image = random.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            image[label == 20] += 150
            cv2.imwrite(str(root / 'JPEGImages' / f'{name}.jpg'), image)
            cv2.imwrite(str(root / folder / f'{name}.png'), label)
        (lists / f'{split}.txt').write_text('\n'.join([*names, '']))
    return root


def write_coco(root: Path, train: int = 4, val: int = 2) -> Path:
    """Write images of 128 x 96 with one rectangular person and one car each, as COCO."""
    random = np.random.default_rng(0)
    classes = CocoDataset.METAINFO['classes']
    categories = [{'id': i + 1, 'name': name} for i, name in enumerate(classes)]
    (root / 'annotations').mkdir(parents=True)
    for split, count in (('train2017', train), ('val2017', val)):
        (root / split).mkdir()
        images: list[dict[str, Any]] = []
        annotations: list[dict[str, Any]] = []
        for index in range(count):
            image = random.integers(0, 60, (96, 128, 3), dtype=np.uint8)
            images.append(dict(id=index, file_name=f'{index:012d}.jpg', height=96, width=128))
            for category, (x, y, w, h) in ((1, (8, 8, 32, 64)), (3, (64, 40, 48, 40))):
                image[y : y + h, x : x + w] += 60 * category
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=index,
                        category_id=category,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
            cv2.imwrite(str(root / split / f'{index:012d}.jpg'), image)
        content = dict(images=images, annotations=annotations, categories=categories)
        (root / 'annotations' / f'instances_{split}.json').write_text(json.dumps(content))
    return root


def write_panoptic(root: Path) -> Path:
    """Add to what `write_coco` wrote grass (stuff) around the person and the car of each image."""
    things, stuff = (CocoPanopticDataset.METAINFO[f'{k}_classes'] for k in ('thing', 'stuff'))
    categories = [
        dict(id=i + 1, name=name, isthing=int(i < len(things)))
        for i, name in enumerate((*things, *stuff))
    ]
    grass = 1 + things.index('person') + len(things) + stuff.index('grass-merged')
    for split in ('train2017', 'val2017'):
        instances = json.loads((root / f'annotations/instances_{split}.json').read_text())
        folder = root / f'annotations/panoptic_{split}'
        folder.mkdir()
        annotations = []
        for image in instances['images']:
            ids = np.full((image['height'], image['width']), 70_000, np.int32)
            ids[:4] = 0
            segments = [dict(id=70_000, category_id=grass, iscrowd=0)]
            for number, row in enumerate(instances['annotations']):
                if row['image_id'] == image['id']:
                    x, y, w, h = row['bbox']
                    ids[y : y + h, x : x + w] = number + 1
                    segments.append(dict(id=number + 1, category_id=row['category_id'], iscrowd=0))
            name = image['file_name'].replace('.jpg', '.png')
            write_ids(folder / name, ids)
            annotations.append(dict(image_id=image['id'], file_name=name, segments_info=segments))
        content = dict(images=instances['images'], annotations=annotations, categories=categories)
        (root / f'annotations/panoptic_{split}.json').write_text(json.dumps(content))
    return root


def write_own_coco(root: Path) -> Path:
    """Write what `write_coco` does in a layout of its own, with few categories of other ids."""
    write_coco(root)
    (root / 'images').mkdir()
    ids = {1: 40, 3: 7}
    names = ('tree', 'person', 'car')
    for split in ('train', 'val'):
        (root / f'{split}2017').rename(root / 'images' / split)
        path = root / f'annotations/instances_{split}2017.json'
        content = json.loads(path.read_text())
        content['categories'] = [
            dict(id=key, name=name) for key, name in zip((5, 40, 7), names, strict=True)
        ]
        for image in content['images']:
            image['file_name'] = f'{split}/{image["file_name"]}'
        for annotation in content['annotations']:
            annotation['category_id'] = ids[annotation['category_id']]
        path.with_name(f'{split}.json').write_text(json.dumps(content))
        path.unlink()
    return root


def write_coco_semantic(root: Path) -> Path:
    """Write images of 128 x 96 whose label maps hold ids of COCO's panoptic classes."""
    random = np.random.default_rng(0)
    for split, count in (('train2017', 4), ('val2017', 2)):
        (root / split).mkdir(parents=True)
        (root / 'semantic' / split).mkdir(parents=True)
        for index in range(count):
            label = np.full((96, 128), 193, np.uint8)  # grass
            label[:16] = 0
            label[24:80, 16 + 8 * index : 72] = 1  # person
            image = random.integers(0, 60, (96, 128, 3), dtype=np.uint8)
            image[label == 1] += 150
            cv2.imwrite(str(root / split / f'{index:012d}.jpg'), image)
            cv2.imwrite(str(root / 'semantic' / split / f'{index:012d}.png'), label)
    return root


def write_nyu(root: Path) -> Path:
    """Write rooms of 640 x 480 with the lists of NYUv2's depth split."""
    folders, splits = ('rgb', 'sync_depth'), ('train', 'test')
    write_rooms(root, 4, 2, (120, 160), folders, splits, times=4)
    for split, count in (('train', 4), ('test', 2)):
        names = (f'{split}/room_{index:03d}.png' for index in range(count))
        lines = [f'/rgb/{name} /sync_depth/{name} 518.8579' for name in names]
        (root / f'nyu_{split}.txt').write_text('\n'.join([*lines, '']))
    return root


def train_args(config: Path, *arguments: str | Path) -> Any:
    """Parse a command line of tools/train.py."""
    return parse_args([str(config), *map(str, arguments)])


def shrink(cfg: Config, factor: int = 8, arch: Any = TINY_ARCH) -> Config:
    """Make a config run in seconds: sizes in pixels over `factor`, a tiny ViT, batches of two."""
    set_arch(cfg, dict(arch))
    divide(cfg._cfg_dict, factor)
    for name in ('train_dataloader', 'val_dataloader', 'test_dataloader'):
        cfg[name].update(num_workers=0, persistent_workers=False)
    cfg.train_dataloader.batch_size = 2
    if 'rpn_proposal' in cfg.model.get('train_cfg', {}):
        # The box head's convolutions on a thousand proposals cost more than all the rest.
        cfg.model.train_cfg.rpn_proposal.max_per_img = 50
        cfg.model.test_cfg.rpn.max_per_img = 50
        _narrow(cfg.model)
    return cfg


def _narrow(node: Any) -> None:
    """Give the pyramid and the heads of a detector 32 channels instead of 256 and 1024."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key.endswith('_channels') and value in (256, 1024):
                node[key] = 32
            else:
                _narrow(value)
    elif isinstance(node, list | tuple):
        for value in node:
            _narrow(value)


def divide(node: Any, factor: int) -> None:
    """Divide the sizes in pixels of a config, in place."""
    if isinstance(node, dict):
        for key, value in node.items():
            if key in _SIZES and isinstance(value, int | list | tuple):
                many = isinstance(value, list | tuple)
                node[key] = tuple(v // factor for v in value) if many else value // factor
            elif key == 'scales' and isinstance(value[0], tuple):
                node[key] = [tuple(v // factor for v in size) for size in value]
            else:
                divide(value, factor)
    elif isinstance(node, list | tuple):
        for value in node:
            divide(value, factor)
