"""What docs/tutorial.md shows works: both configs train, on images and masks of 0 and 255."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmengine.runner import Runner

from moca.transfer.run import prepare_training
from tests.configs.helpers import REPOSITORY, shrink, train_args
from tools.prepare_data import main as prepare_data

PAGE = (REPOSITORY / 'docs/tutorial.md').read_text()
PROBE, FINETUNE = re.findall(r'```python\n(.*?)```', PAGE, re.DOTALL)


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bright cracks in gray, the data as the page lays them out, and both configs."""
    folder = tmp_path_factory.mktemp('tutorial')
    random = np.random.default_rng(0)
    for split, count in (('train', 3), ('val', 2)):
        for part in ('images', 'masks'):
            (folder / 'data/cracks' / part / split).mkdir(parents=True)
        for number in range(count):
            mask = np.zeros((90, 120), np.uint8)
            mask[random.integers(10, 80) :][:9] = 255
            image = (mask[..., None] // 2 + random.integers(0, 90, (90, 120, 3))).astype(np.uint8)
            root = folder / 'data/cracks'
            cv2.imwrite(str(root / f'images/{split}/{number}.jpg'), image)
            cv2.imwrite(str(root / f'masks/{split}/{number}.png'), mask)
    (folder / 'configs').symlink_to(REPOSITORY / 'configs')
    (folder / 'cracks.py').write_text(PROBE)
    (folder / 'cracks_finetune.py').write_text(FINETUNE)
    return folder


def test_the_check_reads_the_masks(folder: Path, capsys: Any) -> None:
    data, sheet = folder / 'data/cracks', folder / 'check.png'
    config = str(folder / 'cracks.py')
    assert prepare_data(['check', config, '--data-root', str(data), '--out', str(sheet)]) == 0
    assert '2 of 2' in capsys.readouterr().out
    assert sheet.exists()


@pytest.mark.parametrize('name', ['cracks', 'cracks_finetune'])
def test_a_config_of_the_page_trains(folder: Path, name: str) -> None:
    arguments = ['--data-root', str(folder / 'data/cracks'), '--work-dir', str(folder / name)]
    cfg, record = prepare_training(train_args(folder / f'{name}.py', *arguments))
    assert record['title'] in ('Cracks, linear + BN', 'Cracks, fine-tune')
    runner = Runner.from_cfg(shrink(cfg, factor=4))
    runner.model.init_weights()
    runner.optim_wrapper = runner.build_optim_wrapper(cfg.optim_wrapper)
    batch = next(iter(runner.build_dataloader(cfg.train_dataloader)))
    labels = torch.stack([sample.gt_sem_seg.data for sample in batch['data_samples']])
    assert {0, 1} <= set(labels.unique().tolist()) <= {0, 1, 255}
    assert torch.isfinite(runner.model.train_step(batch, runner.optim_wrapper)['loss'])
    trained = {key.split('.')[0] for key, p in runner.model.named_parameters() if p.requires_grad}
    assert trained == ({'decode_head'} if name == 'cracks' else {'backbone', 'decode_head'})
