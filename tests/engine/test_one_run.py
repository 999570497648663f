"""Two processes are one run: they start from the same, or neither does; if one fails, both end."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config

from moca.engine import agreement, fsdp
from moca.engine.agreement import Processes
from moca.engine.checkpoints import AtomicCheckpointHook
from moca.engine.snapshot import Snapshot
from moca.engine.watch import WatchTraining
from moca.engine.work_dir import alone_in_work_dir
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tests.engine.sharded_runs import CONFIG
from tests.engine.two_processes import Ended, nothing, run_two
from tests.images.photographs import save_photographs

WHOLE = 'strategy=None'


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of images, a config, and a run of four steps."""
    folder = tmp_path_factory.mktemp('one_run')
    save_photographs(folder / 'images', count=16)
    (folder / 'config.py').write_text(CONFIG)
    ended = run_two(folder, 'pretrain', [command(folder, 'run')] * 2, (keep_state, keep_state))
    assert [end.code for end in ended] == [0, 0], ended
    return folder


def command(folder: Path, run: str, *options: str, strategy: str = WHOLE) -> list[str]:
    images = ['--data-root', f'{folder}/images', '--work-dir', f'{folder}/{run}']
    return [f'{folder}/config.py', *images, *options, '--cfg-options', strategy]


def resumed(folder: Path, run: str, *options: str, **kwargs: Any) -> list[str]:
    return command(folder, run, '--resume', f'{folder}/run/iter_2.pth', *options, **kwargs)


def keep_state() -> None:
    """Save what each process ends with, beside the run's checkpoints."""
    build = fsdp.runner_of

    def keeping(cfg: Config) -> Any:
        runner = build(cfg)
        train = runner.train

        def train_and_keep() -> None:
            train()
            torch.save(runner.model.state_dict(), f'{cfg.work_dir}/rank{os.environ["RANK"]}.state')

        runner.train = train_and_keep
        return runner

    fsdp.runner_of = keeping


def unseen_checkpoint() -> None:
    """This node's disk does not have what the first process has written."""
    stat = os.stat

    def blind(path: Any, *args: Any, **kwargs: Any) -> os.stat_result:
        if 'iter_' in str(path):
            raise FileNotFoundError(2, 'No such file or directory', str(path))
        return stat(path, *args, **kwargs)

    os.stat = blind


def unseen_and_slow_to_hear() -> None:
    """And this node comes to what was agreed when the first process would be gone."""
    unseen_checkpoint()
    wait = Processes._wait

    def wait_longer(self: Any, *args: Any) -> None:
        wait(self, *args)
        time.sleep(0.6)  # twice what the first process gave it once

    Processes._wait = wait_longer  # type: ignore[method-assign]


def another_checkpoint() -> None:
    """The file of that name on this node is of another run."""
    check = AtomicCheckpointHook.after_load_checkpoint

    def load(self: Any, runner: Any, checkpoint: dict[str, Any]) -> None:
        check(self, runner, checkpoint)
        checkpoint['state_dict']['student.blocks.1.attn.proj.bias'][3] += 1e-6

    AtomicCheckpointHook.after_load_checkpoint = load  # type: ignore[method-assign]


def failing_hook() -> None:
    """Raise after the second step."""
    watch = WatchTraining.after_train_iter

    def fail_or_watch(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter == 1:
            os.environ['TORCHELASTIC_ERROR_FILE'] = f'{runner.work_dir}/error.json'
            raise ZeroDivisionError('of this node')
        watch(self, runner, *args, **kwargs)

    WatchTraining.after_train_iter = fail_or_watch  # type: ignore[method-assign]


def killing_hook() -> None:
    """Be killed after the second step."""
    watch = WatchTraining.after_train_iter

    def die_or_watch(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        watch(self, runner, *args, **kwargs)

    WatchTraining.after_train_iter = die_or_watch  # type: ignore[method-assign]


def told_to_stop() -> None:
    """Be told by SIGTERM during the second step, as Slurm tells all."""
    watch = WatchTraining.after_train_iter

    def watch_and_tell(self: Any, runner: Any, *args: Any, **kwargs: Any) -> None:
        watch(self, runner, *args, **kwargs)
        if runner.iter == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    WatchTraining.after_train_iter = watch_and_tell  # type: ignore[method-assign]


def told_to_stop_and_slow() -> None:
    """Take longer to copy the state than what others say of their end is waited for."""
    told_to_stop()
    agreement._OWN_WORDS = 0.0
    take = Snapshot._take

    def slow(self: Any, *args: Any, **kwargs: Any) -> Any:
        time.sleep(1)
        return take(self, *args, **kwargs)

    Snapshot._take = slow  # type: ignore[method-assign]


def errors(ended: list[Ended]) -> list[str]:
    """The one line of error that each process has printed."""
    lines = [[row for row in end.output.splitlines() if 'error: ' in row] for end in ended]
    assert [len(found) for found in lines] == [1, 1], ended
    return [found[0] for found in lines]


def state(folder: Path, run: str, rank: int) -> dict[str, torch.Tensor]:
    return torch.load(folder / run / f'rank{rank}.state')


class TestStart:
    def test_both_resume_and_end_with_the_weights_of_an_uninterrupted_run(
        self, folder: Path
    ) -> None:
        (folder / 'resumed').mkdir()
        os.link(folder / 'run/iter_2.pth', folder / 'resumed/iter_2.pth')
        (folder / 'resumed/iter_3.pth').write_bytes(b'cut off')
        arguments = [command(folder, 'resumed', '--resume')] * 2
        ended = run_two(folder, 'pretrain', arguments, (keep_state, keep_state))
        assert [end.code for end in ended] == [0, 0], ended
        # read through by one of them
        assert ['iter_3.pth is damaged' in end.output for end in ended] == [True, False]
        first = state(folder, 'resumed', 0)
        for other in (state(folder, 'resumed', 1), state(folder, 'run', 0)):
            assert first.keys() == other.keys()
            for name, value in first.items():
                assert torch.equal(value, other[name]), name

    def test_a_checkpoint_that_one_does_not_see(self, folder: Path) -> None:
        (folder / 'unseen').mkdir()
        os.link(folder / 'run/iter_2.pth', folder / 'unseen/iter_2.pth')
        arguments = [command(folder, 'unseen', '--resume')] * 2
        ended = run_two(folder, 'pretrain', arguments, (nothing, unseen_and_slow_to_hear))
        assert [end.code for end in ended] == [2, 2]
        first, second = errors(ended)
        assert first == second
        assert f'{folder}/unseen/iter_2.pth: this checkpoint cannot be read by process 1' in first
        assert [path.name for path in (folder / 'unseen').glob('*.pth')] == ['iter_2.pth']

    @pytest.mark.parametrize('strategy', [WHOLE, 'log_level=WARNING'])
    def test_another_checkpoint_of_that_name(self, folder: Path, strategy: str) -> None:
        run = 'whole' if strategy == WHOLE else 'sharded'
        arguments = [resumed(folder, run, strategy=strategy)] * 2
        ended = run_two(folder, 'pretrain', arguments, (nothing, another_checkpoint))
        assert [end.code for end in ended] == [2, 2]
        first, second = errors(ended)
        assert first == second
        assert 'would not train as one: student.blocks.1.attn.proj.bias' in first
        assert 'process 0' in first
        assert 'process 1' in first
        assert not list((folder / run).glob('*.pth'))

    def test_other_settings_on_one(self, folder: Path) -> None:
        arguments = [command(folder, 'seeds', '--seed', str(seed)) for seed in (3, 4)]
        ended = run_two(folder, 'pretrain', arguments)
        assert [end.code for end in ended] == [2, 2]
        first, second = errors(ended)
        assert first == second
        assert 'started differently: randomness.seed: 3 on process 0' in first
        assert '4 on process 1' in first

    def test_downstream_runs_are_held_to_it_as_well(self, tmp_path: Path) -> None:
        data = write_cityscapes(tmp_path / 'data')
        config = str(REPOSITORY / 'configs/segmentation/driving/linear-bn.py')
        common = ['--arch', 'vit_tiny_patch16', '--data-root', str(data)]
        arguments = [
            [config, *common, '--work-dir', f'{tmp_path}/{seed}', '--seed', str(seed)]
            for seed in (3, 4)
        ]
        ended = run_two(tmp_path, 'train', arguments)
        assert [end.code for end in ended] == [2, 2]
        first, second = errors(ended)
        assert first == second
        assert 'started differently: randomness.seed: 3 on process 0' in first


class TestEnd:
    @pytest.mark.parametrize('rank', [0, 1])
    def test_a_failure_while_training_ends_both(self, folder: Path, rank: int) -> None:
        before = (failing_hook, nothing) if rank == 0 else (nothing, failing_hook)
        arguments = [command(folder, f'fails{rank}')] * 2
        ended = run_two(folder, 'pretrain', arguments, before)
        assert [end.code for end in ended] == [1, 1]
        assert 'Traceback' in ended[rank].output
        noted = (folder / f'fails{rank}/error.json').read_text()  # for torchrun's last words
        assert 'ZeroDivisionError: of this node' in noted
        for end in ended:
            assert 'ZeroDivisionError: of this node' in end.output
        said = [row for row in ended[1 - rank].output.splitlines() if 'ZeroDivisionError' in row]
        assert said[0].startswith('error: ')
        assert f'(process {rank} on ' in said[0]

    def test_what_ends_all_waits_for_the_one_that_saves(self, folder: Path) -> None:
        arguments = [
            command(folder, 'told', '--cfg-options', 'default_hooks.checkpoint.interval=9')
        ]
        ended = run_two(folder, 'pretrain', arguments * 2, (told_to_stop_and_slow, told_to_stop))
        assert [end.code for end in ended] == [143, 143], ended
        said = [end.output.splitlines()[-1] for end in ended]
        assert said[0] == said[1]
        assert said[0].startswith(f'Interrupted. Saved: {folder}/told/iter_2.pth. Go on with: ')
        assert torch.load(folder / 'told/iter_2.pth', weights_only=False)['meta']['iter'] == 2

    def test_a_process_that_is_killed_ends_the_other_with_the_cause(self, folder: Path) -> None:
        """The first one, with which the store goes as well."""
        arguments = [command(folder, 'killed')] * 2
        killed, other = run_two(folder, 'pretrain', arguments, (killing_hook, nothing))
        assert (killed.code, other.code) == (-signal.SIGKILL, 1)
        (line,) = [row for row in other.output.splitlines() if row.startswith('error: ')]
        assert 'a process has ended without a word' in line
        assert '(process 0 on ' in line

    def test_a_work_dir_that_is_taken_ends_both(self, folder: Path) -> None:
        taken = Config(dict(work_dir=str(folder / 'taken')))
        arguments = [command(folder, 'taken')] * 2
        with alone_in_work_dir(taken):
            ended = run_two(folder, 'pretrain', arguments)
        assert [end.code for end in ended] == [2, 2]
        for line in errors(ended):
            assert f'another run is at work there (process {os.getpid()} on ' in line

    def test_a_fault_before_anything_is_agreed_ends_both(self, folder: Path) -> None:
        arguments = command(folder, 'other')
        other = [f'{folder}/missing.py', *arguments[1:]]
        ended = run_two(folder, 'pretrain', [arguments, other])
        assert [end.code for end in ended] == [2, 2]
        for line in errors(ended):
            assert 'missing.py: no such config file' in line
