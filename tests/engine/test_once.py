"""What one process makes for all, however long that takes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from moca.engine import once
from moca.engine.once import once_for_all
from moca.errors import UserError
from tests.processes import run_processes


def slow(folder: str, number: int) -> str:
    time.sleep(0.2)
    Path(folder, f'made_{number}').touch()
    return f'{number} made by {dist.get_rank()}'


def refused() -> str:
    raise UserError('no such folder')


def process(rank: int, folder: str) -> None:
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    collective, number = once.broadcast_object_list, 0

    def entered(found: list[Any]) -> None:
        assert Path(folder, f'made_{number}').exists(), 'a collective was entered before'
        collective(found)

    once.broadcast_object_list = entered
    for number in range(2):
        assert once_for_all(lambda: slow(folder, number)) == f'{number} made by 0'  # noqa: B023
    with pytest.raises(UserError, match='no such folder'):
        once_for_all(refused)
    dist.destroy_process_group()


def test_no_process_enters_a_collective_before_all_is_made(tmp_path: Path) -> None:
    """Collectives end a run whose processes come 10 minutes apart."""
    run_processes(process, (str(tmp_path),))


def test_one_process_makes_it_itself() -> None:
    assert once_for_all(lambda: 'made') == 'made'
