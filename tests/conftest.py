"""Set-up shared by all tests: one thread a worker, and GPU tests only where there is a GPU."""

import os

# Before torch is imported, which reads it once.
os.environ['OMP_NUM_THREADS'] = '1'

import pytest
import torch

import moca  # noqa: F401  (mmcv.ops finds its operators, whatever a test imports first)

torch.set_num_threads(1)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests marked `gpu` on a machine without CUDA."""
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason='needs a CUDA device')
    for item in items:
        if 'gpu' in item.keywords:
            item.add_marker(skip)
