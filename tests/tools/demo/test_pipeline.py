"""The demo's order of work, resuming and failing, with commands that only pretend."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from moca.errors import UserError
from moca.records.log_lines import losses
from tools.demo import pipeline
from tools.demo.execute import StageFailed, execute, time_left
from tools.demo.pipeline import run_demo
from tools.demo.plan import MOCA_ROW, Plan, make_stages
from tools.demo.write import DataSettings

TINY = DataSettings(
    images=3, image_size=32, streets_train=1, streets_val=1, street_height=32,
    things_train=1, things_val=1, thing_size=48,
)  # fmt: skip


class Pretender:
    """Writes what each command would write; ends after two polls; keeps a diary."""

    def __init__(self, failing: str | None = None) -> None:
        self.commands: list[list[str]] = []
        self.failing = failing
        self.running = 0
        self.most = 0

    def __call__(self, command: Sequence[str], log: Path) -> Pretender.Process:
        self.commands.append(list(command))
        self.running += 1
        self.most = max(self.most, self.running)
        log.parent.mkdir(parents=True, exist_ok=True)
        log.write_text('Iter(train) [ 1/2]  lr: 1  loss: 4.5  x\nIter(train) [2/2] loss: 1.25 y\n')
        return self.Process(self, list(command), log)

    class Process:
        def __init__(self, diary: Pretender, command: list[str], log: Path) -> None:
            self.diary, self.command, self.log = diary, command, log
            self.polls, self.terminated = 0, False

        def poll(self) -> int | None:
            self.polls += 1
            if self.polls < 2:
                return None
            self.diary.running -= 1
            if self.diary.failing and self.diary.failing in self.log.name:
                self.log.write_text('Traceback\nValueError: the disk is on fire\n')
                return 3
            _write_output(self.command)
            return 0

        def terminate(self) -> None:
            self.terminated = True

        def wait(self, timeout: float | None = None) -> int:
            return 0


def _value(command: list[str], option: str) -> str:
    return command[command.index(option) + 1]


def _write_output(command: list[str]) -> None:
    if command[0] == 'tools/visualize.py':
        path = Path(_value(command, '--out'))
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new('RGB', (40, 20), 'red').save(path)
        return
    folder = Path(_value(command, '--work-dir'))
    folder.mkdir(parents=True, exist_ok=True)
    if command[0] == 'tools/pretrain.py':
        (folder / 'epoch_7.pth').write_bytes(b'weights')
        return
    seed, moca = int(_value(command, '--seed')), '--checkpoint' in command
    detection = 'mask-rcnn' in command[1]
    config = Path(command[1]).stem
    value = (30.0 if moca else 20.0) + seed
    (folder / 'run.json').write_text(
        json.dumps(
            dict(
                status='finished',
                protocol='demo_' + config.replace('-', '_'),
                task='detection' if detection else 'segmentation',
                checkpoint=dict(name=MOCA_ROW if moca else 'random init', path=None),
                arch='vit',
                seed=seed,
                train_images=1,
                val_images=1,
                iterations=2,
                seconds=1.0,
                metrics=dict(bbox_mAP=0.0, segm_mAP=0.0) if detection else dict(mIoU=value),
                finished_at=f'2025-01-01T00:00:0{seed}',
            )
        )
    )


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, 'execute', lambda *a: execute(*a, poll=0.0))


@pytest.fixture
def plan(tmp_path: Path) -> Plan:
    return Plan(tmp_path / 'demo', TINY, pretrain_options=('train_cfg.max_epochs=7',))


def _run(plan: Plan, pretender: Pretender, fresh: bool = False) -> str:
    console = Console(file=io.StringIO(), width=160)
    run_demo(plan, console, fresh, launch=pretender)
    return console.file.getvalue()


def test_every_stage_runs_once_in_order_and_the_end_tells_all(plan, monkeypatch):
    monkeypatch.setattr(pipeline.os, 'cpu_count', lambda: 2)
    pretender = Pretender()
    text = _run(plan, pretender)
    names = [command[0] for command in pretender.commands]
    assert names[0] == 'tools/pretrain.py'
    assert names.count('tools/train.py') == 10  # 2 x (3 probes, fine-tuning, detection)
    assert names[-3:] == ['tools/visualize.py'] * 3
    assert pretender.most == 2
    for command in pretender.commands:
        assert f'$ python {command[0]}' in text
    assert 'loss 4.5 -> 1.25' in text
    assert '31.0 ± 1.0 (3)' in text
    assert '21.0 ± 1.0 (3)' in text
    assert 'MOCA is 10.0 above' in text
    assert 'overview.png' in text
    for name in ('leaderboard.md', 'leaderboard.csv', 'leaderboard.png', 'images/overview.png'):
        assert (plan.folder / name).is_file()


def test_moca_and_random_init_differ_in_the_checkpoint_alone(plan):
    stages = {stage.name: stage for stage in make_stages(plan)}
    for name in ('linear-bn', 'finetune', 'mask-rcnn'):
        ours, random = stages[f'{name}-moca-0'].command, stages[f'{name}-random-0'].command
        start = ours.index('--checkpoint')
        without = ours[:start] + ours[start + 6 :]
        assert ours[start + 2 : start + 6] == ('--branch', 'teacher', '--name', MOCA_ROW)
        assert [a.replace('moca-', 'random-') for a in without] == list(random)


def test_a_second_run_starts_nothing_and_fresh_starts_over(plan):
    _run(plan, Pretender())
    again = Pretender()
    text = _run(plan, again)
    assert again.commands == []
    assert text.count('already done') == 15  # the data, 11 jobs, 3 sheets
    fresh = Pretender()
    _run(plan, fresh, fresh=True)
    assert len(fresh.commands) == 14


def test_a_failed_stage_is_named_and_the_rest_is_kept(plan):
    with pytest.raises(StageFailed, match=r'(?s)fine-tuning.*exit code 3.*\.log.*disk is on fire'):
        _run(plan, Pretender(failing='finetune-moca'))
    mended = Pretender()
    _run(plan, mended)
    assert not any('pretrain' in command[0] for command in mended.commands)
    first = next(c for c in mended.commands if 'finetune' in c[1] and '--checkpoint' in c)
    assert first[-1] == '--resume'


def test_a_command_without_its_output_has_failed(plan, monkeypatch):
    monkeypatch.setattr(f'{__name__}._write_output', lambda command: None)
    with pytest.raises(StageFailed, match=r'it left no .*epoch_7\.pth'):
        _run(plan, Pretender())


def test_another_recipe_runs_again_with_all_that_depends_on_it(plan):
    _run(plan, Pretender())
    changed = Plan(
        plan.folder, TINY, pretrain_options=(*plan.pretrain_options, 'randomness.seed=1')
    )
    pretender = Pretender()
    _run(changed, pretender)
    trained = [c for c in pretender.commands if c[0] == 'tools/train.py']
    assert len(trained) == 5
    assert all('--checkpoint' in command for command in trained)
    assert not any('--resume' in command for command in pretender.commands)


def test_other_images_run_everything_again(plan):
    _run(plan, Pretender())
    larger = dataclasses.replace(plan, data=dataclasses.replace(TINY, images=4))
    pretender = Pretender()
    _run(larger, pretender)
    assert len(pretender.commands) == 14
    assert not any('--resume' in command for command in pretender.commands)


def test_foreign_folders_are_left_alone(plan):
    plan.folder.mkdir()
    (plan.folder / 'thesis.tex').write_text('x')
    with pytest.raises(UserError, match='choose another --work-dir'):
        _run(plan, Pretender(), fresh=True)
    assert (plan.folder / 'thesis.tex').exists()


def test_time_left_follows_the_pace_of_this_machine():
    # Nothing done yet: as fast as where the numbers are from, two at a time.
    assert time_left(work=400.0, rest=400.0, busy=5.0, jobs=2) == 200.0
    # A quarter done by 200 s of processes, half as fast: two at a time take 300 s for the others.
    assert time_left(work=400.0, rest=300.0, busy=200.0, jobs=2) == 300.0
    assert time_left(work=400.0, rest=300.0, busy=200.0, jobs=1) == 600.0
    assert time_left(work=400.0, rest=0.0, busy=380.0, jobs=2) == 0.0
    assert time_left(work=0.0, rest=0.0, busy=1.0, jobs=2) == 0.0


def test_losses_are_read_from_mmengine_s_lines(tmp_path):
    log = tmp_path / 'log'
    log.write_text(
        '11/21 09:02:50 - mmengine - INFO - Iter(train) [  5/180]  base_lr: 1.1e-04 lr: 1.1e-04  '
        'eta: 0:11:57  time: 4.09  data_time: 0.12  grad_norm: 46.8  loss: 7.5072  kl_image: 6.1\n'
        '11/21 09:02:51 - mmengine - INFO - Iter(val) [ 5/180]  loss: 9\n'
        '11/21 09:02:52 - mmengine - INFO - Epoch(train) [1][ 5/18]  loss: 9\n'
        '11/21 09:03:11 - mmengine - INFO - Iter(train) [180/180]  loss: 5.5661  decode.loss: 3\n'
    )
    assert losses(log) == [7.5072, 5.5661]
