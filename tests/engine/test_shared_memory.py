"""A small /dev/shm: said in one line, before a run and where a worker dies of it."""

from __future__ import annotations

import os
import signal
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

from moca.engine import shared_memory
from moca.engine.cli import main_guard
from moca.engine.shared_memory import check_shared_memory
from moca.errors import UserError


class Dies(Dataset[torch.Tensor]):
    """Ends its worker as the kernel does where a page of shared memory cannot be had."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> torch.Tensor:
        os.kill(os.getpid(), signal.SIGBUS)
        return torch.zeros(1)


def test_a_worker_that_died_of_it_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    @main_guard
    def main() -> None:
        list(DataLoader(Dies(), num_workers=1))

    assert main() == 2
    error = capsys.readouterr().err
    assert 'found no more shared memory' in error
    assert '--shm-size' in error
    assert 'Traceback' not in error


def test_other_errors_of_the_run_are_left_alone() -> None:
    @main_guard
    def main() -> None:
        raise RuntimeError('something else')

    with pytest.raises(RuntimeError, match='something else'):
        main()


def test_too_little_is_refused_before_the_first_step(monkeypatch: pytest.MonkeyPatch) -> None:
    def status(_: str) -> Any:
        return SimpleNamespace(f_frsize=4096, f_blocks=2**14, f_bavail=2**14)  # docker's 64 MiB

    monkeypatch.setattr(shared_memory.os, 'statvfs', status)
    batch = 8 * 2**20
    check_shared_memory(batch, workers=8)
    check_shared_memory(batch, workers=0, processes=100)
    with pytest.raises(UserError, match=r'64 MiB free.* 9 workers .* 72 MiB.*--shm-size'):
        check_shared_memory(batch, workers=9)
    with pytest.raises(UserError, match='of each of 2 processes'):
        check_shared_memory(batch, workers=5, processes=2)
