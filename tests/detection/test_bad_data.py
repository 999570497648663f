"""COCO data with faults: what training and evaluation make of it, and what the user reads."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from mmdet.datasets import CocoDataset
from mmengine.config import Config
from mmengine.runner import Runner
from mmengine.structures import InstanceData

from moca.data.survey import check_data
from moca.errors import UserError
from moca.transfer.run import prepare_training
from tests.configs.helpers import REPOSITORY, shrink, train_args, write_coco
from tests.detection.bad_coco import TRAIN, VAL, edit, evaluable, messy

CONFIG = REPOSITORY / 'configs/detection/coco/mask-rcnn_1x.py'


@pytest.fixture
def data(tmp_path: Path) -> Path:
    root = write_coco(tmp_path / 'coco', train=4, val=4)
    edit(root / TRAIN, messy)
    edit(root / VAL, evaluable)
    return root


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    for module in ('moca.data.coco_check', 'moca.images.loading'):
        monkeypatch.setattr(f'{module}.print_log', lambda text, *_, **__: lines.append(text))
    return lines


def read(root: Path) -> Config:
    return prepare_training(train_args(CONFIG, '--data-root', root))[0]


def test_counts_in_the_log(data: Path, logged: list[str]) -> None:
    read(data)
    (text,) = [line for line in logged if line.startswith(str(data / TRAIN))]
    assert '4 images (2 without objects, 1 with crowds only), 2 objects, 1 crowds' in text
    for kind, count in (
        ('with a box or a mask of no area', 1),
        ('outside their image', 1),
        ('of categories that are no classes here', 2),
        ('without a polygon of three points', 1),
        ('of images that the file does not list', 1),
    ):
        assert f'{kind}: {count}' in text


def test_counts_agree_with_mmdet(data: Path, logged: list[str]) -> None:
    read(data)
    dataset = CocoDataset(
        data_root=str(data), ann_file=TRAIN, data_prefix=dict(img='train2017'), test_mode=True
    )
    instances = [row for info in dataset for row in info['instances']]
    flags = [row['ignore_flag'] for row in instances]
    # the object without a polygon is ignored as its mask is loaded, after this
    assert (flags.count(0), flags.count(1)) == (2 + 1, 1)


def test_training_and_evaluation_go_on(data: Path, tmp_path: Path, logged: list[str]) -> None:
    cfg = read(data)
    cfg.work_dir = str(tmp_path / 'run')
    for loader in ('train_dataloader', 'val_dataloader'):
        cfg[loader].dataset.filter_cfg = None  # images without objects as well
    cfg = shrink(cfg)
    cfg.train_dataloader.batch_size = 4
    runner = Runner.from_cfg(cfg)
    runner.model.init_weights()
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    runner.model.train()
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    found = {
        s.img_id: (len(s.gt_instances), len(s.ignored_instances)) for s in batch['data_samples']
    }
    assert set(found) == {0, 1, 2, 3}
    assert found[2] == found[3] == (0, 0)
    assert found[1][0] == 0
    losses = runner.model.train_step(batch, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert losses['loss_rpn_cls'] > 0

    metrics = evaluate(runner, cfg)
    # One person found first of three, since pycocotools counts the one without an area and the one
    # outside: precision 1 at 34 of 101 recalls. None of the one car.
    assert metrics['coco/bbox_mAP'] == pytest.approx(34 / 101 / 2, abs=1e-3)
    assert metrics['coco/segm_mAP'] == pytest.approx(34 / 101 / 2, abs=1e-3)


def evaluate(runner: Runner, cfg: Config) -> dict[str, float]:
    """Let the model predict, then score the person of image 0 as if it had been found."""
    loader = runner.build_dataloader(cfg.val_dataloader)
    evaluator = runner.build_evaluator(cfg.val_evaluator)
    evaluator.dataset_meta = loader.dataset.metainfo
    runner.model.eval()
    for batch in loader:
        with torch.no_grad():
            (sample,) = runner.model.val_step(batch)
        mask = torch.zeros(1, 96, 128, dtype=torch.bool)
        mask[:, 8:72, 8:40] = True
        sample.pred_instances = InstanceData(
            bboxes=torch.tensor([[8.0, 8, 40, 72]]),
            scores=torch.ones(1) if sample.img_id == 0 else torch.full((1,), 0.1),
            labels=torch.zeros(1, dtype=torch.long),
            masks=mask,
        )
        evaluator.process(data_samples=[sample.to_dict()], data_batch=batch)
    return evaluator.evaluate(len(loader.dataset))


def test_a_batch_without_a_single_object(data: Path, tmp_path: Path, logged: list[str]) -> None:
    cfg = read(data)
    cfg.work_dir = str(tmp_path / 'run')
    cfg.train_dataloader.dataset.update(filter_cfg=None, indices=[1, 2])
    runner = Runner.from_cfg(shrink(cfg))
    runner.model.init_weights()
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    assert [len(sample.gt_instances) for sample in batch['data_samples']] == [0, 0]
    losses = runner.model.train_step(batch, wrapper)
    assert all(torch.isfinite(value).all() for value in losses.values())
    assert losses['loss_bbox'] == losses['loss_mask'] == 0


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (
            lambda c: c['annotations'][0].pop('segmentation'),
            r'annotation 1 of 000000000000\.jpg has no segmentation',
        ),
        (
            lambda c: c['annotations'][0].update(segmentation=dict(size=[128, 96], counts='abc')),
            r'annotation 1 of 000000000000\.jpg: its RLE mask .* \[96, 128\]',
        ),
        (lambda c: c['annotations'][0].pop('bbox'), r'annotations\[0\] has no bbox'),
        (lambda c: c['images'][1].pop('width'), r'images\[1\] has no width'),
        (lambda c: c['annotations'][1].update(id=1), r'id 1 of annotations occurs twice\.'),
        (lambda c: c['annotations'][0].update(bbox=[8, 8]), r'annotations\[0\]\.bbox=\[8, 8\]'),
        (
            lambda c: c['annotations'][0].update(segmentation=dict(size=[96, 128], counts=[9])),
            r'annotation 1 of 000000000000\.jpg: the counts of its RLE mask',
        ),
        (lambda c: c['annotations'][0].update(segmentation=[8, 8, 40, 72]), 'a list of polygons'),
        (lambda c: c['categories'].reverse(), "label 0 is category 'toothbrush' there"),
        (
            lambda c: [row.update(category_id=999) for row in c['annotations']],
            r'none of its annotations is an object.*no classes here: 8',
        ),
    ],
)
@pytest.mark.parametrize('file', [TRAIN, VAL])
def test_faults_that_would_end_a_run_later(
    tmp_path: Path, file: str, change: Callable[[dict[str, Any]], object], message: str
) -> None:
    root = write_coco(tmp_path / 'coco', train=4, val=4)
    edit(root / file, change)
    with pytest.raises(UserError, match=f'{file}.*{message}'):
        read(root)


def test_a_polygon_on_which_evaluation_would_fail(tmp_path: Path) -> None:
    root = write_coco(tmp_path / 'coco', train=4, val=4)
    edit(root / VAL, messy)
    with pytest.raises(UserError, match=rf'{VAL}: annotation 6 of .* fewer than three points'):
        read(root)


def test_boxes_alone_suffice_without_a_mask_head(tmp_path: Path) -> None:
    """What the message about a missing mask and docs/data.md say to write."""
    root = write_coco(tmp_path / 'coco')
    cfg = read(root)
    for file in (TRAIN, VAL):
        edit(root / file, lambda c: [row.pop('segmentation') for row in c['annotations']])
    with pytest.raises(UserError, match='mask_head and mask_roi_extractor from the model'):
        check_data(cfg)
    cfg.merge_from_dict(
        {
            'model.roi_head.mask_head': None,
            'model.roi_head.mask_roi_extractor': None,
            'train_dataloader.dataset.pipeline.1.with_mask': False,
            'val_evaluator.metric': ['bbox'],
        }
    )
    check_data(cfg)
    cfg.work_dir = str(tmp_path / 'run')
    runner = Runner.from_cfg(shrink(cfg))
    wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    losses = runner.model.train_step(batch, wrapper)
    assert losses['loss_bbox'] > 0
    assert 'loss_mask' not in losses
    assert evaluate(runner, cfg)['coco/bbox_mAP'] > 0


def test_heads_of_another_number_of_classes(tmp_path: Path) -> None:
    root = write_coco(tmp_path / 'coco')
    arguments = ['--data-root', root, '--cfg-options', 'model.roi_head.bbox_head.num_classes=3']
    with pytest.raises(UserError, match=r'80 classes, and heads of \[3, 80\]'):
        prepare_training(train_args(CONFIG, *arguments))
