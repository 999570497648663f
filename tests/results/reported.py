"""Folders of runs as tools/train.py leaves them, written out: for reports."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

EVIL = '<script>alert("no")</script><img src=x onerror=alert(1)>\'"&'
"""What a careless page would run, as the name of a checkpoint, a class or a folder."""

LOG = """2026/01/01 10:00:00 - mmengine - INFO -
------------------------------------------------------------
System environment:
    sys.platform: linux
    PyTorch: 9.8.7+test
    GPU 0: Imaginary X1

Runtime environment:
    seed: 0
------------------------------------------------------------

2026/01/01 10:00:05 - mmengine - INFO - per class results:
2026/01/01 10:00:05 - mmengine - INFO -

+-------+------+------+
| Class | IoU  | Acc  |
+-------+------+------+
|  road | 1.0  | 2.0  |
+-------+------+------+
2026/01/01 10:00:09 - mmengine - INFO - per class results:
2026/01/01 10:00:09 - mmengine - INFO -

"""

CITYSCAPES: dict[str, Any] = dict(
    status='finished',
    protocol='cityscapes_linear',
    title='Cityscapes linear',
    published='cityscapes_linear_2975',
    main_metrics=['mIoU', 'mIoU_present'],
    task='segmentation',
    checkpoint=dict(
        name='MOCA',
        path='weights/moca.pth',
        branch='teacher',
        sha256='0123abcd' * 8,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
    ),
    arch='vit_base_patch16',
    seed=0,
    train_images=2975,
    val_images=500,
    iterations=80000,
    seconds=5000.0,
    metrics=dict(mIoU=60.0, mIoU_present=60.0, aAcc=90.0),
    finished_at='2026-01-01T00:00:00+00:00',
    config='linear.py',
    options=dict(data_root='data/cityscapes', cfg_options={'train_dataloader.num_workers': 2}),
    changes='',
    subset=None,
)
RANDOM = dict(name='random init', path=None, branch=None)

DEPTH: dict[str, Any] = dict(
    protocol='nyu_linear',
    title='NYUv2 depth',
    published=None,
    main_metrics=['rmse', 'd1'],
    task='depth',
    train_images=24231,
    val_images=654,
    iterations=38400,
)
DETECTION: dict[str, Any] = dict(
    protocol='coco_mask_rcnn',
    title='COCO Mask R-CNN',
    published=None,
    main_metrics=['bbox_mAP', 'segm_mAP'],
    task='detection',
    train_images=117266,
    val_images=5000,
    iterations=90000,
)
PANOPTIC: dict[str, Any] = dict(
    protocol='coco_panoptic_eomt',
    title='COCO panoptic EoMT',
    published=None,
    main_metrics=['PQ'],
    task='detection',
    train_images=118287,
    val_images=5000,
    iterations=177408,
)
NEIGHBORS: dict[str, Any] = dict(
    protocol='imagenet_knn_cls',
    title='k-NN',
    published='imagenet_knn_cls',
    main_metrics=['top1'],
    task='image',
    train_images=1_281_167,
    val_images=50_000,
    iterations=0,
    settings=dict(feature='cls', k=[10, 20], temperatures=[0.07]),
    chosen=dict(k=20),
    environment=dict(torch='7.7.7', device='Imaginary X2'),
)
CLASSES = {'road': 97.2, 'a | b': 45.0, 'bicycle': 71.0, EVIL: 12.5, 'unseen': math.nan}


def write_run(folder: Path, classes: dict[str, float] | None = None, **changes: Any) -> Path:
    """A folder with record, config, log and curves; of a run without steps without curves."""
    record = {**CITYSCAPES, **changes}
    time = folder / '20260101_100000'
    (time / 'vis_data').mkdir(parents=True)
    (folder / 'run.json').write_text(json.dumps(record))
    (folder / 'linear.py').write_text(f'protocol = dict(\n    name={record["protocol"]!r})\n')
    rows = ''.join(f'| {name} | {iou} | {iou / 2} |\n' for name, iou in (classes or {}).items())
    table = f'+--+\n| Class | IoU | Acc |\n+--+\n{rows}+--+\n' if rows else ''
    log = LOG if rows else LOG.partition('\n\n')[0] + '\n' + '-' * 60 + '\n'
    (time / '20260101_100000.log').write_text(f'{log}{table}the last line\n')
    if record['iterations']:
        lines = [
            dict(step=step, iter=step, time=0.5, lr=1e-3, loss=3 / step, grad_norm=10.0 / step)
            | {'decode.loss_ce': 2 / step, 'decode.acc_seg': 90 - 30 / step}
            for step in range(1, 40)
        ]
        lines.append(dict(step=39, **{k: v for k, v in record['metrics'].items() if v is not None}))
        (time / 'vis_data' / 'scalars.json').write_text('\n'.join(map(json.dumps, lines)))
    return folder


def write_all(root: Path) -> Path:
    """Runs of every task, of three seeds, failed and running ones, and names that are code."""
    for seed, value in enumerate((60.0, 61.0, 62.6)):
        metrics = dict(mIoU=value, mIoU_present=value, aAcc=94.0)
        write_run(root / f'moca_{seed}', CLASSES, seed=seed, metrics=metrics)
    random = dict(mIoU=20.4, mIoU_present=21.0, aAcc=60.0)
    write_run(root / 'random', CLASSES, checkpoint=RANDOM, metrics=random)
    evil = dict(name=EVIL, path=f'weights/{EVIL}.pth', branch='student')
    lower = dict(mIoU=41.0, mIoU_present=41.0)
    write_run(root / 'code', CLASSES, checkpoint=evil, metrics=lower, note=EVIL)
    for name, checkpoint, rmse in (('a', CITYSCAPES['checkpoint'], 0.41), ('b', RANDOM, 1.2)):
        metrics = dict(rmse=rmse, d1=90.1, abs_rel=0.1)
        write_run(root / f'depth_{name}', checkpoint=checkpoint, metrics=metrics, **DEPTH)
    boxes = dict(bbox_mAP=41.2, segm_mAP=37.0, bbox_mAP_s=None)
    write_run(root / 'coco', metrics=boxes, **DETECTION)
    write_run(root / 'panoptic', metrics=dict(PQ=50.1, SQ=80.2, RQ=60.3), **PANOPTIC)
    write_run(root / 'knn', metrics=dict(top1=75.9, top5=90.0), **NEIGHBORS)
    write_run(root / 'running', status='running', seed=7)
    write_run(root / f'failed {EVIL.replace("/", "")}', status='failed', seed=8)
    (root / 'torn').mkdir()
    (root / 'torn' / 'run.json').write_text('{"status": "fin')
    return root
