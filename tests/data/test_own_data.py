"""What docs/data.md shows works: its config trains, its conversion is right."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner
from PIL import Image

from moca.engine.config_files import load_config
from moca.segmentation import LoadCheckedAnnotations
from moca.segmentation.label_files import read_values
from moca.transfer.run import prepare_training
from tests.configs.helpers import REPOSITORY, shrink, train_args, write_own_coco
from tools.prepare_data import main as prepare_data

PAGE = (REPOSITORY / 'docs/data.md').read_text()
CONFIG, CONVERSION, COCO_LINES = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)


def write_street(root: Path) -> Path:
    """Images of 120 x 90 in a layout of its own, with 11 classes and 11 for void."""
    random = np.random.default_rng(0)
    for split, count in (('train', 3), ('val', 2)):
        for part in ('images', 'labels'):
            (root / part / split).mkdir(parents=True)
        for index in range(count):
            labels = random.integers(0, 12, (9, 12), dtype=np.uint8).repeat(10, 0).repeat(10, 1)
            image = (labels[..., None] * 20 + random.integers(0, 20, (90, 120, 3))).astype(np.uint8)
            cv2.imwrite(str(root / 'images' / split / f'{index}.png'), image)
            cv2.imwrite(str(root / 'labels' / split / f'{index}.png'), labels)
    return root


def test_config(tmp_path: Path, capsys: Any) -> None:
    root = write_street(tmp_path / 'street')
    config = tmp_path / 'street.py'
    config.write_text(CONFIG)
    sheet = tmp_path / 'sheet.png'
    arguments = ['check', str(config), '--data-root', str(root), '--out', str(sheet)]
    assert prepare_data(arguments) == 0
    assert '11 of 11' in capsys.readouterr().out

    arguments = ['--data-root', str(root), '--work-dir', str(tmp_path / 'run'), '--subset', '2']
    cfg, record = prepare_training(train_args(config, *arguments))
    assert record['protocol'] == 'street_linear_bn'
    runner = Runner.from_cfg(shrink(cfg, factor=4))
    runner.model.init_weights()
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    loader = runner.build_dataloader(cfg.train_dataloader)
    batch = next(iter(loader))
    labels = torch.stack([sample.gt_sem_seg.data for sample in batch['data_samples']])
    assert set(labels.unique().tolist()) <= {*range(11), 255}
    losses = runner.model.train_step(batch, runner.optim_wrapper)
    assert torch.isfinite(losses['loss'])
    assert len(loader.dataset) == 2

    (root / 'labels/train/1.png').unlink()  # only some of the images have labels
    listing = "ls labels/train | sed 's/\\.png$//' > train.txt"
    subprocess.run(listing, shell=True, check=True, cwd=root)
    options = ('--cfg-options', 'train_dataloader.dataset.ann_file=train.txt')
    cfg, _ = prepare_training(train_args(config, '--data-root', root, *options))
    assert len(Runner.build_dataloader(cfg.train_dataloader).dataset) == 2


def test_conversion(tmp_path: Path) -> None:
    labels = np.random.default_rng(0).integers(0, 4, (20, 30))
    colors = np.array([(128, 128, 128), (128, 0, 0), (192, 192, 128), (1, 2, 3)], np.uint8)
    (tmp_path / 'colors/train').mkdir(parents=True)
    cv2.imwrite(str(tmp_path / 'colors/train/a.png'), colors[labels][..., ::-1])
    subprocess.run([sys.executable, '-c', CONVERSION], check=True, cwd=tmp_path)
    found = cv2.imread(str(tmp_path / 'labels/train/a.png'), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(found, np.where(labels == 3, 255, labels))


OWN_COCO = REPOSITORY / 'configs/detection/own-coco/mask-rcnn_sfp.py'


def test_lines_of_the_detection_config() -> None:
    assert COCO_LINES in OWN_COCO.read_text()


def test_a_copy_anywhere_has_the_bases_that_the_page_names(tmp_path: Path) -> None:
    bases = re.findall(r"`(_base_ = '.*?')`", PAGE)
    sizes = []
    for base in bases:
        copy = tmp_path / 'own.py'
        copy.write_text(re.sub(r'(?m)^_base_ = .*$', base, OWN_COCO.read_text()))
        cfg = load_config(copy)
        assert cfg.protocol.source == 'ours'
        assert cfg.model.roi_head.mask_head.num_classes == 2
        sizes.append(cfg.model.backbone.img_size)
    assert sizes == [336, 1024]


def test_classes_are_named_in_one_place(tmp_path: Path, capsys: Any) -> None:
    """A copy with one class more, in the order of the files, whose ids are not in order."""
    root = write_own_coco(tmp_path / 'own')
    config = tmp_path / 'own.py'
    text = OWN_COCO.read_text().replace("_base_ = '..", f"_base_ = '{OWN_COCO.parents[1]}")
    config.write_text(text.replace("('person', 'car')", "('tree', 'person', 'car')"))
    sheet = tmp_path / 'sheet.png'
    arguments = ['check', str(config), '--data-root', str(root), '--out', str(sheet)]
    assert prepare_data(arguments) == 0
    assert 'train: 1 of 3 classes have no object: tree' in capsys.readouterr().out

    arguments = ['--data-root', str(root), '--work-dir', str(tmp_path / 'run')]
    cfg, _ = prepare_training(train_args(config, *arguments))
    runner = Runner.from_cfg(shrink(cfg))
    heads = runner.model.roi_head
    assert (heads.bbox_head.num_classes, heads.mask_head.num_classes) == (3, 3)
    dataset = runner.build_dataloader(cfg.val_dataloader).dataset
    labels = {row['bbox_label'] for i in range(2) for row in dataset.get_data_info(i)['instances']}
    found = {dataset.metainfo['classes'][label] for label in labels}
    assert found == {'person', 'car'}

    config.write_text(text.replace("('person', 'car')", "('car', 'person')"))
    assert prepare_data(['check', str(config), '--data-root', str(root)]) == 2
    assert "label 0 is category 'person' there, but 'car'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ('row', 'mode', 'object_is'),
    [
        ('of 0 and 255', 'L', 255),
        ('of 0 and 1,', 'L', 1),
        ('of 0 and 1,', '1', 1),
        ('three', 'RGB', 255),
    ],
)
def test_rows_of_binary_masks(tmp_path: Path, row: str, mode: str, object_is: int) -> None:
    rows = {line.split('|')[1]: line for line in PAGE.splitlines() if '| binary masks' in line}
    (lines,) = [re.findall(r'`(.*?)`', line) for name, line in rows.items() if row in name]
    mask = np.random.default_rng(0).integers(0, 2, (6, 8), dtype=np.uint8)
    path = tmp_path / 'mask.png'
    Image.fromarray(mask * object_is if mode != '1' else mask.astype(bool)).convert(mode).save(path)
    if row == 'three':
        exec(lines[0], dict(Image=Image, path=path))
        lines = re.findall(r'`(.*?)`', next(iter(rows.values())))
    names: dict[str, Any] = {}
    exec('\n'.join(lines[:2]), names)
    step = {key: value for key, value in names['load_labels'].items() if key != 'type'}
    rule = LoadCheckedAnnotations(num_classes=len(names['classes']), **step).rule({})
    assert np.array_equal(rule.convert(read_values(path)), mask)
