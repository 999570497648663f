"""A small data set of own-coco's layout: images of 96 x 64 with a person and a car in each."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.registry import init_default_scope
from PIL import Image

from moca.detection import QuickCocoMetric
from moca.transfer.overrides import set_data_root
from tests.configs.helpers import REPOSITORY

CONFIG = REPOSITORY / 'configs/detection/own-coco/mask-rcnn_sfp.py'
CLASSES = ('person', 'car')
Content = dict[str, Any]
Change = Callable[[Content], object]


def write(root: Path, change: Change | None = None, splits: tuple[str, ...] = ('val',)) -> Path:
    """Write three images for training and two for validation; `change` edits the JSON of `splits`.

    What `change` returns takes the place of the content, unless it is None.
    """
    random = np.random.default_rng(0)
    (root / 'images').mkdir(parents=True, exist_ok=True)
    (root / 'annotations').mkdir(exist_ok=True)
    for split, count in (('train', 3), ('val', 2)):
        images, annotations = [], []
        for number in range(1, count + 1):
            pixels = random.integers(0, 60, (64, 96, 3), dtype=np.uint8)
            name = f'{split}{number}.png'
            images.append(dict(id=number, file_name=name, width=96, height=64))
            for category, (x, y, w, h) in ((1, (6, 8, 24, 48)), (2, (40 + 4 * number, 20, 36, 30))):
                pixels[y : y + h, x : x + w] += np.uint8(80 * category)
                annotations.append(
                    dict(
                        id=len(annotations) + 1,
                        image_id=number,
                        category_id=category,
                        bbox=[x, y, w, h],
                        area=w * h,
                        iscrowd=0,
                        segmentation=[[x, y, x + w, y, x + w, y + h, x, y + h]],
                    )
                )
            Image.fromarray(pixels).save(root / 'images' / name)
        content: Any = dict(
            images=images,
            annotations=annotations,
            categories=[dict(id=i, name=name) for i, name in enumerate(CLASSES, 1)],
        )
        if change and split in splits:
            replaced = change(content)
            content = replaced if isinstance(replaced, dict) else content
        (root / 'annotations' / f'{split}.json').write_text(json.dumps(content))
    return root


def config(root: Path) -> Config:
    cfg = Config.fromfile(CONFIG)
    set_data_root(cfg, root)
    return cfg


def perfect_scores(root: Path, at_most: int | None = None, **options: Any) -> dict[str, float]:
    """AP of the first `at_most` objects of each image, predicted exactly as mmdet reads them."""
    init_default_scope('mmdet')
    file = root / 'annotations/val.json'
    data = CocoDataset(
        ann_file=str(file),
        data_prefix=dict(img=str(root / 'images')),
        metainfo=dict(classes=CLASSES),
        test_mode=True,
        pipeline=[],
    )
    metric = QuickCocoMetric(ann_file=str(file), metric=['bbox', 'segm'], **options)
    metric.dataset_meta = data.metainfo
    for place in range(len(data)):
        about = data.get_data_info(place)
        assert Path(about['img_path']).is_file()
        objects = about['instances'][:at_most]
        shape = about['height'], about['width']
        masks = torch.zeros(len(objects), *shape, dtype=torch.bool)
        for mask, instance in zip(masks, objects, strict=True):
            x1, y1, x2, y2 = map(round, instance['bbox'])
            mask[y1:y2, x1:x2] = True
        found = dict(
            bboxes=torch.tensor([instance['bbox'] for instance in objects]).reshape(-1, 4).float(),
            scores=torch.linspace(0.9, 0.8, len(objects)),
            labels=torch.tensor([o['bbox_label'] for o in objects], dtype=torch.long),
            masks=masks,
        )
        sample = dict(img_id=about['img_id'], ori_shape=shape, pred_instances=found)
        metric.process({}, [sample])
    return metric.evaluate(len(data))
