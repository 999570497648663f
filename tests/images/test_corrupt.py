"""Corrupt images during a run: skipped, named once, and too many of them end it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from moca.errors import UserError
from moca.images.corrupt import REPORT, CorruptImages
from tests.engine.test_epoch_loop import build
from tests.images.photographs import save_photographs
from tests.processes import run_processes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    save_photographs(tmp_path / 'images', count=100, height=12, width=16)
    return tmp_path / 'images'


def damage(folder: Path, count: int) -> list[str]:
    damaged = [f'class0/{2 * number:04d}.jpg' for number in range(count)]
    for number, path in enumerate(damaged):
        data = (folder / path).read_bytes()
        (folder / path).write_bytes(data[: number * len(data) // (2 * count)])
    return damaged


def run(
    folder: Path,
    work_dir: Path,
    workers: int = 0,
    hook: dict[str, Any] | None = None,
    **kwargs: Any,
) -> Runner:
    checkpoints = {'interval': 10, 'by_epoch': False}
    runner, _ = build(
        folder, work_dir, workers=workers, checkpoints=checkpoints, **{'batch_size': 10, **kwargs}
    )
    runner.register_hook(HOOKS.build({'type': 'CorruptImages', **(hook or {})}))
    runner.train()
    return runner


def logged(work_dir: Path) -> list[str]:
    (log,) = work_dir.glob('*/*.log')
    return [line for line in log.read_text().splitlines() if 'Corrupt image' in line]


@pytest.mark.parametrize('workers', [0, 2])
def test_each_is_named_once(folder: Path, tmp_path: Path, workers: int) -> None:
    damaged = damage(folder, count=2)
    run(folder, tmp_path / 'run', workers, hook={'max_share': 0.02})
    lines = logged(tmp_path / 'run')
    assert len(lines) == 2, 'in three epochs'
    for path in damaged:
        assert sum(str(folder / path) in line for line in lines) == 1
    report = (tmp_path / 'run' / REPORT).read_text().splitlines()
    assert sorted(line.split('\t')[0] for line in report) == damaged
    assert 'the file is empty' in (tmp_path / 'run' / REPORT).read_text()


def test_one_in_a_hundred_is_not_too_many_but_two_are(folder: Path, tmp_path: Path) -> None:
    damage(folder, count=1)
    run(folder, tmp_path / 'one')
    damaged = damage(folder, count=2)
    with pytest.raises(UserError, match='2 of 100 images cannot be decoded, more than 1') as stop:
        run(folder, tmp_path / 'two')
    assert all(path in str(stop.value) for path in damaged)
    report = tmp_path / 'two' / REPORT
    assert str(report) in str(stop.value)
    assert len(report.read_text().splitlines()) == 2


def test_a_single_one_never_stops_a_small_run(tmp_path: Path) -> None:
    save_photographs(tmp_path / 'images', count=20, height=12, width=16)
    damage(tmp_path / 'images', count=1)
    run(tmp_path / 'images', tmp_path / 'run')
    assert len(logged(tmp_path / 'run')) == 1


def test_a_sound_run_writes_no_report(folder: Path, tmp_path: Path) -> None:
    (tmp_path / 'run').mkdir()
    (tmp_path / 'run' / REPORT).write_text('of/an/earlier.run\tempty\n')
    run(folder, tmp_path / 'run')
    assert not (tmp_path / 'run' / REPORT).exists()


def test_resuming_remembers_those_named_before(folder: Path, tmp_path: Path) -> None:
    damage(folder, count=2)
    hook = {'max_share': 0.02}
    run(folder, tmp_path / 'run', hook=hook)
    (tmp_path / 'run' / REPORT).write_text('class0/0000.jpg\tas before\n')
    with pytest.raises(UserError, match='2 of 100'):
        run(
            folder,
            tmp_path / 'run',
            hook={'max_share': 0.01},
            resume=tmp_path / 'run' / 'iter_10.pth',
        )
    report = (tmp_path / 'run' / REPORT).read_text()
    assert report.startswith('class0/0000.jpg\tas before\nclass0/0002.jpg\t')


def test_bad_share_is_refused() -> None:
    with pytest.raises(UserError, match=r'max_share is 1\.5'):
        CorruptImages(max_share=1.5)


def distributed_run(rank: int, rendezvous: Path, folder: Path, work_dir: Path) -> None:
    """What each of the two processes below does."""
    dist.init_process_group('gloo', f'file://{rendezvous}', rank=rank, world_size=2)
    try:
        run(folder, work_dir, hook={'interval': 3}, batch_size=5)
    except UserError as error:
        (work_dir / f'stop{rank}').write_text(str(error))
    finally:  # gloo's threads would otherwise outlive the interpreter, now and then
        dist.destroy_process_group()


@pytest.mark.parametrize('count', [1, 4])
def test_processes_count_together(folder: Path, tmp_path: Path, count: int) -> None:
    damaged = damage(folder, count)
    work_dir = tmp_path / 'run'
    run_processes(distributed_run, (tmp_path / 'rendezvous', folder, work_dir))
    stops = [path.read_text() for path in sorted(work_dir.glob('stop*'))]
    named = {line.split('\t')[0] for line in (work_dir / REPORT).read_text().splitlines()}
    if count == 1:
        assert not stops
        assert named == set(damaged)
    else:
        assert len(stops) == 2, 'both processes stop'
        assert stops[0] == stops[1]
        assert 1 < len(named) <= 4
        assert named <= set(damaged)
