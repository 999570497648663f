"""Set-up shared by all tests: one thread a worker, GPU tests only on a GPU, no shared state."""

import os
from collections.abc import Iterator

# Before torch is imported, which reads it once.
os.environ['OMP_NUM_THREADS'] = '1'

import pytest
import torch
from mmengine.config import Config
from mmengine.logging import MessageHub, MMLogger
from mmengine.registry import DefaultScope
from mmengine.visualization import Visualizer

from moca import backbone, checkpoints, engine, pretrain  # noqa: F401  (their parts are known)
from moca.engine.config_text import plain_text

torch.set_num_threads(1)

# Formatting takes half a second to two for each config, and tests make hundreds of them.
Config.pretty_text = property(plain_text)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on a machine without CUDA."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if 'gpu' in item.keywords:
            item.add_marker(skip)


def _restored_managers() -> Iterator[None]:
    """Take back what Runners leave behind: default scope, logger, message hub, visualizer.

    The latest of each is global in mmengine, and the default scope decides where every later
    `build` looks a name up.
    """
    managers = (DefaultScope, MessageHub, MMLogger, Visualizer)
    before = [manager._instance_dict.copy() for manager in managers]
    yield
    for manager, instances in zip(managers, before, strict=True):
        manager._instance_dict.clear()
        manager._instance_dict.update(instances)


# Twice: a module's own fixture may hold a Runner for all tests of the module.
_restored_after_module = pytest.fixture(scope='module', autouse=True)(_restored_managers)
_restored_after_test = pytest.fixture(autouse=True)(_restored_managers)
