"""Compiled blocks compute what plain ones do."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch

from tests.replay import replay

RECORDING = Path(__file__).parents[1] / 'data' / 'moca_tiny.json'


@pytest.mark.skipif(
    shutil.which('g++') is None, reason='torch.compile needs a C++ compiler (g++) on a CPU'
)
def test_the_recorded_run_is_reproduced_with_compiled_blocks() -> None:
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    report = replay(RECORDING, compiled=True)
    assert torch._dynamo.utils.counters['stats']['unique_graphs'] > 0
    assert report.passed, report
