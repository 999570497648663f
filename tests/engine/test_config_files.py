"""A config anywhere may have one of the suite for its base."""

from __future__ import annotations

from pathlib import Path

import pytest
from mmengine.config import Config

from moca.engine import config_files
from moca.engine.cli import read_config
from moca.engine.config_files import load_config
from moca.errors import UserError
from tests.configs.helpers import REPOSITORY

BASE = 'segmentation/driving/linear-bn.py'


def test_a_config_elsewhere_inherits_as_one_beside_does(tmp_path: Path) -> None:
    whole = Config.fromfile(REPOSITORY / 'configs' / BASE)
    for name, base in (('far', f'moca::{BASE}'), ('near', str(REPOSITORY / 'configs' / BASE))):
        (tmp_path / f'{name}.py').write_text(
            f'_base_ = {base!r}\nmodel = dict(decode_head=dict(num_classes=2))\n'
            'of_base = {{_base_.width}}\n'
        )
    (tmp_path / 'further.py').write_text("_base_ = ['far.py']\n")
    far, near, further = (
        load_config(tmp_path / f'{name}.py') for name in ('far', 'near', 'further')
    )
    assert far.to_dict() == near.to_dict() == further.to_dict()
    assert far.of_base == whole.width
    assert far.model.decode_head.num_classes == 2
    assert '_scope_' not in far.pretty_text  # its classes are found as in the base


def test_a_base_that_is_not_there_is_named(tmp_path: Path) -> None:
    path = tmp_path / 'own.py'
    path.write_text("_base_ = 'moca::segmentation/driving/linear.pi'\n")
    with pytest.raises(UserError, match=r"own\.py: _base_ names 'moca::.*linear\.pi', and there"):
        read_config(path)
    path.write_text("_base_ = 'mmdet::faster_rcnn/x.py'\n")  # mmengine's own are left to it
    with pytest.raises(Exception, match=r'x\.py|mmdet'):
        load_config(path)


def test_configs_are_those_of_the_package_where_there_is_no_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert config_files.configs_folder() == REPOSITORY / 'configs'
    monkeypatch.setattr(config_files, '__file__', str(tmp_path / 'moca/engine/config_files.py'))
    assert config_files.configs_folder() == tmp_path / 'moca/configs'
