"""What a record says of the environment, against the packages themselves."""

from __future__ import annotations

import platform

import mmengine
import pytest
import timm
import torch

from moca.engine import environment as module
from moca.engine.environment import environment


def test_versions_are_those_of_the_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    found = environment()
    assert found['python'] == platform.python_version()
    assert torch.__version__.startswith(found['torch'])
    assert (found['timm'], found['mmengine']) == (timm.__version__, mmengine.__version__)
    assert {'mmsegmentation', 'mmdet', 'moca'} <= found.keys()
    assert found['device'] == 'CPU'
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'Imaginary X1')
    assert environment()['device'] == 'Imaginary X1'


def test_without_git_there_is_no_commit(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(*_: object, **__: object) -> None:
        raise FileNotFoundError('git')

    monkeypatch.setattr(module.subprocess, 'run', absent)
    assert 'commit' not in environment()
