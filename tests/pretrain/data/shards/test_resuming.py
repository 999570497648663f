"""A run over shards that is killed in the middle of an epoch, and one whose shards have changed."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from torch.multiprocessing import ProcessExitedException

from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from tests.engine.test_epoch_loop import BATCH, EPOCHS, IMAGES, STEPS, Recorder, build
from tests.images.photographs import save_photographs
from tests.pretrain.data.shards.tars import contents, write_split
from tests.pretrain.data.test_dataset import VIEWS
from tests.processes import run_processes
from tools.pretrain import configure, parse_args

KILLED_AFTER = 7  # steps, of which an epoch has five


class Kill(Hook):
    """Ends the process by SIGKILL after a step."""

    priority = 'LOWEST'

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter + 1 == KILLED_AFTER:
            os.kill(os.getpid(), signal.SIGKILL)


def run_over(shards: Path, work_dir: Path, *args: Any, **kwargs: Any) -> tuple[Any, Recorder]:
    """A run from the same weights at every call."""
    dataset = {'data_root': str(shards), 'shuffle_window': 8, 'views': VIEWS}
    torch.manual_seed(0)  # the model is built before a run sets its seed
    return build(shards, work_dir, *args, dataset={'type': 'UnlabeledImages', **dataset}, **kwargs)


def killed_run(rank: int, shards: Path, work_dir: Path) -> None:
    """What the process that is killed does."""
    runner, _ = run_over(shards, work_dir)
    runner.register_hook(Kill())
    runner.train()


@pytest.fixture(scope='module')
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=IMAGES + 4)
    shards = tmp_path_factory.mktemp('shards')
    files = contents(folder)
    write_split(shards / 'one', dict(list(files.items())[:IMAGES]), [10, 2, 11])
    write_split(shards / 'other', dict(list(files.items())[:IMAGES]), [11, 2, 10])
    write_split(shards / 'more', files, [9, 9, 9])
    return shards


@pytest.fixture(scope='module')
def whole(
    shards: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Recorder, dict[str, Any]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv('MOCA_CACHE', str(tmp_path_factory.mktemp('cache')))
        work_dir = tmp_path_factory.mktemp('whole')
        runner, recorder = run_over(shards / 'one', work_dir)
        runner.train()
    return work_dir, recorder, runner.model.state_dict()


def test_sigkill_within_an_epoch_changes_nothing(shards: Path, tmp_path: Path, whole: Any) -> None:
    _, expected, weights = whole
    with pytest.raises(ProcessExitedException) as death:
        run_processes(killed_run, (shards / 'one', tmp_path), count=1)
    assert death.value.signal_name == 'SIGKILL'
    newest = latest_checkpoint(tmp_path)
    assert newest is not None
    done = int(newest.stem.split('_')[1])
    assert KILLED_AFTER - 1 <= done <= KILLED_AFTER
    runner, got = run_over(shards / 'one', tmp_path, newest, seed=8, workers=2)
    runner.train()
    assert got.batches == {i: batch for i, batch in expected.batches.items() if i >= done}
    for name, weight in runner.model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_other_shards_are_refused(shards: Path, tmp_path: Path, whole: Any) -> None:
    work_dir = whole[0]
    checkpoint = work_dir / 'iter_7.pth'
    runner, _ = run_over(shards / 'other', tmp_path / 'a', checkpoint)
    with pytest.raises(UserError, match=r'over other images\. In an epoch'):
        runner.train()
    runner, _ = run_over(shards / 'more', tmp_path / 'b', checkpoint)
    with pytest.raises(UserError, match=r'have 5 steps; here they have 6.*--resume-approximately'):
        runner.train()


def test_other_shards_go_on_approximately(shards: Path, tmp_path: Path, whole: Any) -> None:
    checkpoint = whole[0] / 'iter_7.pth'
    runner, got = run_over(shards / 'more', tmp_path, checkpoint, approximately=True)
    runner.train()
    # two of five steps of the second epoch were over: of six, the same share rounded down
    assert sorted(got.batches) == list(range(6 + 2, 6 * EPOCHS))
    assert runner.epoch == EPOCHS
    seen = [index for step in range(12, 18) for index in got.batches[step][2]]
    assert len(set(seen)) == 6 * BATCH
    assert STEPS == 5


def test_the_option_is_for_a_run_that_is_resumed(tmp_path: Path) -> None:
    command = ['configs/pretrain/moca_small.py', '--data-root', 'x', '--work-dir', str(tmp_path)]
    with pytest.raises(UserError, match='--resume-approximately needs --resume'):
        configure(parse_args([*command, '--resume-approximately']))
    cfg = configure(parse_args([*command, '--resume', '--resume-approximately']))
    assert cfg.train_cfg.approximately is True
