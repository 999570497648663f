"""What tools/print_config.py prints is the config, whole and alone."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from tests.configs.helpers import REPOSITORY
from tools.print_config import main


@pytest.mark.parametrize(
    'name',
    ['pretrain/moca_v0p9', 'segmentation/ade20k/upernet', 'detection/coco/vitdet_mask-rcnn'],
)
def test_the_printed_text_is_the_merged_config(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = str(REPOSITORY / f'configs/{name}.py')
    assert not main([path])
    printed = Config.fromstring(capsys.readouterr().out, '.py')
    assert '_base_' not in printed
    assert printed.to_dict() == Config.fromfile(path).to_dict()


def test_options_are_applied_and_checked(capsys: pytest.CaptureFixture[str]) -> None:
    path = str(REPOSITORY / 'configs/pretrain/moca_v0p9.py')
    assert not main([path, '--cfg-options', 'default_hooks.schedule.base_lr=3e-4'])
    printed = Config.fromstring(capsys.readouterr().out, '.py')
    assert printed.default_hooks.schedule.base_lr == 3e-4
    assert printed.default_hooks.schedule.warmup_epochs == 30  # of its base
    assert main([path, '--cfg-options', 'model.kapa=3']) == 2
    assert "no argument 'kapa'. Did you mean 'kappa'?" in capsys.readouterr().err
