"""Options, branches and a swept rate for each checkpoint, by hand-made results."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from moca.errors import UserError
from moca.records.run_reading import read_runs
from moca.results.jobs import Job
from moca.results.leaderboard import build_leaderboard
from moca.results.plan import Plan, make_jobs
from moca.results.sweep import decided, read_sweep, trials_of
from moca.results.tables import remarks
from moca.transfer.run import prepare_training
from tests.backbone.helpers import TINY, timm_vit
from tests.configs.helpers import REPOSITORY, train_args, write_cityscapes
from tools import leaderboard, train

RATE = 'optim_wrapper.optimizer.lr'


@pytest.fixture
def plan(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Plan:
    monkeypatch.chdir(tmp_path)
    config = tmp_path / 'probe.py'
    config.write_text(
        f"_base_ = '{REPOSITORY}/configs/segmentation/driving/linear-bn.py'\n"
        f'model = dict(backbone=dict(arch={dict(TINY, _delete_=True)!r}), '
        'decode_head=dict(in_channels=32))\n'
    )
    state = timm_vit(TINY).state_dict()
    torch.save(state, 'mae.pth')
    both = {'teacher': {f'backbone.{k}': v for k, v in state.items()}}
    torch.save({**both, 'student': both['teacher']}, 'ibot.pth')
    return Plan(['mae.pth', 'ibot.pth', 'random'], [str(config)])


def settings(job: Job) -> list[str]:
    arguments = [*job.arguments, '--cfg-options']
    return arguments[arguments.index('--cfg-options') + 1 : -1]


def finish(job: Job, value: float) -> None:
    """Leave the result that the tool would."""
    args = train.parse_args(list(job.arguments))
    job.folder.mkdir(parents=True)
    record = dict(
        status='finished', protocol='p', task='segmentation', main_metrics=['mIoU'],
        checkpoint=dict(name=Path(job.checkpoint).stem, path=None, branch=None), arch='vit', seed=0,
        train_images=9, val_images=1, iterations=3, seconds=1.0, metrics=dict(mIoU=value),
        finished_at='2026-01-01', note=args.note,
    )  # fmt: skip
    (job.folder / 'run.json').write_text(json.dumps(record))


def test_options_and_branches_of_one_checkpoint(plan: Plan) -> None:
    from dataclasses import replace

    own = [f'mae.pth:{RATE}=1', f'ibot:{RATE}=2', f'{RATE}=3', 'random:train_cfg.max_iters=4']
    mae, ibot, random = make_jobs(replace(plan, cfg_options=own, branches=['-', 'student', '-']))
    assert settings(mae) == [f'{RATE}=3', f'{RATE}=1']
    assert settings(ibot) == [f'{RATE}=3', f'{RATE}=2']
    assert settings(random) == [f'{RATE}=3', 'train_cfg.max_iters=4']
    assert train.parse_args(list(ibot.arguments)).branch == 'student'
    assert train.parse_args(list(mae.arguments)).branch is None
    assert train.parse_args(list(mae.arguments)).cfg_options == {RATE: 1}  # its own wins
    with pytest.raises(UserError, match=r"no checkpoint is called 'dino', they are mae\.pth, mae"):
        make_jobs(replace(plan, cfg_options=[f'dino:{RATE}=1']))
    with pytest.raises(UserError, match=r'2 branches \(--branch\) for 3 checkpoints'):
        make_jobs(replace(plan, branches=['teacher', '-']))


def test_each_checkpoint_gets_the_rate_that_was_best_on_held_out_images(plan: Plan) -> None:
    sweep = read_sweep(f'{RATE}=1e-4,2e-4,4e-4')
    trials = trials_of(plan, sweep)
    jobs = [job for trial in trials for job in trial.jobs]
    assert len({job.folder for job in jobs}) == len(jobs) == 3 * 3
    for job in jobs:
        assert train.parse_args(list(job.arguments)).held_out == 0.1
        assert '_held_out' in str(job.folder.parent)
    with pytest.raises(UserError, match='none of the values of'):
        decided(trials, sweep)
    results = ((1, 3, 2), (5, 4, 3), (0, 0, 1))
    for trial, values in zip(trials, results, strict=True):
        for job, value in zip(trial.jobs, values, strict=True):
            finish(job, float(value))
    final = [job for each in decided(trials, sweep) for job in make_jobs(each)]
    assert [settings(job)[-1] for job in final] == [f'{RATE}={v}' for v in ('2e-4', '1e-4', '4e-4')]
    for job in final:
        assert train.parse_args(list(job.arguments)).held_out is None
        finish(job, 50.0)
    board = build_leaderboard(*read_runs([job.folder for job in final]))
    text = '\n'.join(remarks(board))
    assert f'{RATE}=2e-4 was chosen of 1e-4, 2e-4, 4e-4 on 10% of the training images' in text
    assert '(1.00, 3.00, 2.00)' in text


def test_each_subset_and_place_chooses_for_itself_and_a_failure_is_the_worst(plan: Plan) -> None:
    from dataclasses import replace

    sweep = read_sweep(f'{RATE}=1,2,4')
    several = replace(
        plan,
        checkpoints=['ibot.pth', 'ibot.pth'],
        branches=['teacher', 'student'],
        subsets=[100, 372],
    )
    trials = trials_of(several, sweep)
    assert len({job.folder for trial in trials for job in trial.jobs}) == 4 * 3
    for number, trial in enumerate(trials):
        for place, job in enumerate(trial.jobs):
            if place != 0:  # the first value diverged
                finish(job, 10.0 + (place == 1 + number % 2))
    best = [each.cfg_options[-1] for each in decided(trials, sweep)]
    assert best == [f'{RATE}=2', f'{RATE}=4', f'{RATE}=2', f'{RATE}=4']
    final = [make_jobs(each)[0] for each in decided(trials, sweep)]
    told = [train.parse_args(list(job.arguments)) for job in final]
    assert [(args.subset, args.branch) for args in told] == [
        (100, 'teacher'), (100, 'student'), (372, 'teacher'), (372, 'student'),
    ]  # fmt: skip
    assert '(failed, 11.00, 10.00)' in told[0].note


def test_names_with_an_equals_sign(plan: Plan) -> None:
    from dataclasses import replace

    folder = Path('runs_lr=1e-4')
    folder.mkdir()
    (folder / 'epoch_9.pth').write_bytes(Path('mae.pth').read_bytes())
    path = str(folder / 'epoch_9.pth')
    own = replace(plan, checkpoints=[path, 'mae.pth'], cfg_options=[f'{path}:{RATE}=1', 'a.b=c:d'])
    first, second = make_jobs(replace(own, cfg_options=[f'{path}:{RATE}=1']))
    assert settings(first) == [f'{RATE}=1']
    assert settings(second) == []


def test_what_is_no_sweep() -> None:
    for text in ('lr', 'lr=', 'lr=1', 'lr=1,1', '=1,2'):
        with pytest.raises(UserError, match='--sweep'):
            read_sweep(text)


def test_a_dry_run_prints_the_candidates(plan: Plan, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ['run', '--checkpoint', 'mae.pth', '--tasks', *plan.tasks, '--dry-run']
    assert leaderboard.main([*arguments, '--sweep', f'{RATE}=1e-4,2e-4']) == 0
    lines = capsys.readouterr().out.strip().splitlines()
    assert len(lines) == 2
    assert all('--held-out 0.1' in line for line in lines)


def test_held_out_images_are_of_the_training_set_and_not_trained_on(tmp_path: Path) -> None:
    data = write_cityscapes(tmp_path / 'data', train=10)
    config = REPOSITORY / 'configs/segmentation/driving/linear-bn.py'

    def prepare(*arguments: str) -> tuple:
        return prepare_training(train_args(config, '--data-root', str(data), *arguments))

    cfg, record = prepare('--held-out', '0.3')
    train_set, held = cfg.train_dataloader.dataset, cfg.val_dataloader.dataset
    assert len(held['indices']) == 3
    assert sorted([*train_set['indices'], *held['indices']]) == list(range(10))
    assert held['data_prefix'] == train_set['data_prefix']
    assert held['test_mode']
    assert 'RandomCrop' not in str(held['pipeline'])
    assert record['held_out'] == dict(share=0.3, images=3)
    assert (record['protocol'], record['published']) == ('driving_linear_bn_held_out', None)
    again, _ = prepare('--held-out', '0.3', '--seed', '5')
    assert again.val_dataloader.dataset['indices'] == held['indices']
    few, _ = prepare('--held-out', '0.25', '--subset', '4')
    chosen = [*few.train_dataloader.dataset['indices'], *few.val_dataloader.dataset['indices']]
    whole, _ = prepare('--subset', '4')
    assert sorted(chosen) == sorted(whole.train_dataloader.dataset['indices'])
    for share in ('0', '1', '0.01'):
        with pytest.raises(UserError, match='leaves some on both sides'):
            prepare('--held-out', share)
