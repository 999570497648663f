"""Resuming at any step gives the batches that the uninterrupted run would have had."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.hooks import Hook
from mmengine.model import BaseModel
from mmengine.runner import Runner
from torch import Tensor, nn

from moca.engine import accumulate, epoch_order
from moca.errors import UserError
from tests.images.photographs import save_photographs
from tests.pretrain.data.test_dataset import VIEWS

IMAGES, BATCH, STEPS, EPOCHS = 23, 4, 5, 3


class TwoViewRegression(BaseModel):
    """Pulls two views together: enough of a model to have weights that remember every batch."""

    def __init__(self) -> None:
        super().__init__()
        self.project = nn.Linear(3 * 32 * 32, 2)
        nn.init.constant_(self.project.weight, 0.01)

    def forward(self, view1: Tensor, view2: Tensor, mode: str, **_: Any) -> dict[str, Tensor]:
        one, other = (self.project(view.flatten(1)) for view in (view1, view2))
        return {'loss': (one - other).square().mean() + (one - 1).square().mean()}


class Recorder(Hook):
    """Keeps what every step was given."""

    def __init__(self) -> None:
        self.batches: dict[int, tuple[int, int, list[int], float]] = {}
        self.epochs_ended: list[int] = []

    def before_train_iter(
        self, runner: Runner, batch_idx: int, data_batch: dict[str, Tensor] | None = None
    ) -> None:
        assert data_batch is not None
        pixels = float(data_batch['view1'].double().sum() + 2 * data_batch['view2'].double().sum())
        shown = (runner.epoch, batch_idx, data_batch['index'].tolist(), pixels)
        self.batches[runner.iter] = shown

    def after_train_epoch(self, runner: Runner) -> None:
        self.epochs_ended.append(runner.epoch)


def build(
    folder: Path,
    work_dir: Path,
    resume: Path | None = None,
    seed: int | None = 0,
    workers: int = 0,
    checkpoints: dict[str, Any] | None = None,
    epochs: Any = EPOCHS,
    approximately: bool = False,
    **dataloader: Any,
) -> tuple[Runner, Recorder]:
    recorder = Recorder()
    loader = {
        'dataset': {'type': 'UnlabeledImages', 'data_root': str(folder), 'views': VIEWS},
        'sampler': {'type': 'EpochShuffle'},
        'collate_fn': {'type': 'default_collate'},
        'batch_size': BATCH,
        'num_workers': workers,
        'persistent_workers': workers > 0,
        'drop_last': True,
    }
    runner = Runner(
        model=TwoViewRegression(),
        work_dir=str(work_dir),
        train_dataloader={**loader, **dataloader},
        train_cfg={
            'type': 'ExactEpochLoop',
            'max_epochs': epochs,
            'approximately': approximately,
        },
        optim_wrapper={'optimizer': {'type': 'SGD', 'lr': 0.01, 'momentum': 0.9}},
        custom_hooks=[recorder],
        default_hooks={
            'checkpoint': {
                'type': 'CheckpointHook',
                **(checkpoints or {'interval': 1, 'by_epoch': False}),
            },
            'logger': {'type': 'LoggerHook', 'interval': 100},
        },
        randomness={'seed': seed},
        resume=resume is not None,
        load_from=None if resume is None else str(resume),
        log_level='WARNING',
        default_scope='mmengine',
        experiment_name=f'{work_dir.name}-{id(recorder)}',
    )
    return runner, recorder


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=IMAGES)
    return folder


@pytest.fixture(scope='module')
def uninterrupted(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Path, Recorder, dict[str, Tensor]]:
    work_dir = tmp_path_factory.mktemp('uninterrupted')
    runner, recorder = build(folder, work_dir, seed=None)
    runner.train()
    return work_dir, recorder, runner.model.state_dict()


def test_an_epoch_sees_every_image_once(uninterrupted: Any) -> None:
    _, recorder, _ = uninterrupted
    assert sorted(recorder.batches) == list(range(EPOCHS * STEPS))
    for epoch in range(EPOCHS):
        batches = [recorder.batches[epoch * STEPS + step] for step in range(STEPS)]
        steps = range(epoch * STEPS, (epoch + 1) * STEPS)
        assert [(batch[0], batch[1]) for batch in batches] == [(epoch, step) for step in steps]
        seen = [index for batch in batches for index in batch[2]]
        assert len(set(seen)) == STEPS * BATCH
    assert len({batch[3] for batch in recorder.batches.values()}) == EPOCHS * STEPS


# Within an epoch, before its last step, after it (the epoch not yet closed), at the run's end.
@pytest.mark.parametrize(('step', 'workers'), [(1, 0), (4, 2), (5, 0), (7, 1), (14, 0), (15, 0)])
def test_resuming_goes_on_with_the_same_batches(
    folder: Path, tmp_path: Path, uninterrupted: Any, step: int, workers: int
) -> None:
    work_dir, expected, weights = uninterrupted
    # Another seed in the config, and none in the run: that of the run holds.
    runner, got = build(folder, tmp_path, work_dir / f'iter_{step}.pth', seed=8, workers=workers)
    runner.train()
    assert got.batches == {i: batch for i, batch in expected.batches.items() if i >= step}
    # An epoch whose last step was saved before its end was announced still ends, once.
    assert got.epochs_ended == [epoch for epoch in range(EPOCHS) if (epoch + 1) * STEPS >= step]
    for name, weight in runner.model.state_dict().items():
        assert torch.equal(weight, weights[name]), name


def test_resuming_from_an_epochs_checkpoint(folder: Path, tmp_path: Path) -> None:
    by_epoch = {'interval': 1, 'by_epoch': True}
    first, expected = build(folder, tmp_path / 'first', checkpoints=by_epoch)
    first.train()
    checkpoint = tmp_path / 'first' / 'epoch_2.pth'
    second, got = build(folder, tmp_path / 'second', checkpoint, checkpoints=by_epoch)
    second.train()
    assert got.batches == {i: batch for i, batch in expected.batches.items() if i >= 2 * STEPS}
    assert got.epochs_ended == [2]


def test_loading_takes_no_number_from_the_global_generator(folder: Path, tmp_path: Path) -> None:
    class States(Hook):
        def before_train(self, runner: Runner) -> None:
            self.before = torch.get_rng_state()

        def after_train(self, runner: Runner) -> None:
            self.after = torch.get_rng_state()

    runner, _ = build(folder, tmp_path, checkpoints={'interval': -1}, workers=1)
    states = States()
    runner.register_hook(states)
    runner.train()
    assert torch.equal(states.before, states.after)


@pytest.mark.parametrize('step', [4, 14])
def test_other_steps_per_epoch_are_refused(
    folder: Path, tmp_path: Path, uninterrupted: Any, step: int
) -> None:
    checkpoint = uninterrupted[0] / f'iter_{step}.pth'
    runner, recorder = build(folder, tmp_path, checkpoint, batch_size=8)
    with pytest.raises(UserError, match=rf'after step {step}, in epoch.* here they have 2\.'):
        runner.train()
    assert not recorder.batches


def test_another_number_of_processes_is_refused_or_said(
    folder: Path, tmp_path: Path, uninterrupted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes with half the batch each have the images of one, step by step."""
    work_dir, expected, _ = uninterrupted
    monkeypatch.setattr(accumulate, 'get_world_size', lambda: 2)
    seen: dict[int, list[int]] = {}
    for rank in range(2):
        monkeypatch.setattr(epoch_order, 'get_dist_info', lambda rank=rank: (rank, 2))
        options: dict[str, Any] = dict(resume=work_dir / 'iter_7.pth', batch_size=2)
        runner, got = build(folder, tmp_path / f'refused{rank}', **options)
        with pytest.raises(
            UserError, match=r'a run of 1 process; this one has 2\..* other random num'
        ):
            runner.train()
        assert not got.batches
        runner, got = build(folder, tmp_path / f'said{rank}', approximately=True, **options)
        said: list[str] = []
        runner.logger.warning = said.append  # type: ignore[method-assign]
        runner.train()
        assert any('of a run of 1 process; this one has 2.' in line for line in said)
        for step, batch in got.batches.items():
            seen.setdefault(step, []).extend(batch[2])
    left = range(7, EPOCHS * STEPS)
    assert {step: sorted(images) for step, images in seen.items()} == {
        step: sorted(expected.batches[step][2]) for step in left
    }


def test_other_images_in_as_many_steps_are_refused(folder: Path, tmp_path: Path) -> None:
    build(folder, tmp_path / 'first', epochs=1, batch_size=8)[0].train()
    checkpoint = tmp_path / 'first/iter_1.pth'
    runner, recorder = build(folder, tmp_path / 'second', checkpoint, batch_size=11)
    with pytest.raises(UserError, match=r'whose steps have 8 images; here they have 11\.'):
        runner.train()
    assert not recorder.batches


def test_a_step_that_its_epoch_cannot_have_is_refused(
    folder: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    content = torch.load(uninterrupted[0] / 'iter_7.pth', weights_only=False)
    content['meta']['iter'] = 100
    torch.save(content, tmp_path / 'iter_7.pth')
    runner, recorder = build(folder, tmp_path / 'run', tmp_path / 'iter_7.pth', approximately=True)
    with pytest.raises(UserError, match=r'after step 100, .*which cannot be\. Resume from another'):
        runner.train()
    assert not recorder.batches


def test_a_run_that_is_over_stays_so_and_is_not_made_shorter(
    folder: Path, tmp_path: Path, uninterrupted: Any
) -> None:
    last = max(uninterrupted[0].glob('iter_*.pth'), key=lambda path: int(path.stem[5:]))
    runner, recorder = build(folder, tmp_path, last)
    runner.train()
    assert not recorder.batches
    shorter, recorder = build(folder, tmp_path, last, epochs=EPOCHS - 1)
    with pytest.raises(UserError, match=rf'has had {EPOCHS} of {EPOCHS - 1} epochs.*--epochs'):
        shorter.train()
    assert not recorder.batches


@pytest.mark.parametrize('epochs', [0, 1.5, None])
def test_a_number_of_epochs_that_is_none_is_refused(
    folder: Path, tmp_path: Path, epochs: Any
) -> None:
    runner, _ = build(folder, tmp_path, epochs=epochs)
    with pytest.raises(UserError, match=r'train_cfg\.max_epochs=.*: give a whole number'):
        runner.train()


def test_a_batch_larger_than_the_data_is_refused(folder: Path, tmp_path: Path) -> None:
    runner, _ = build(folder, tmp_path, batch_size=24)
    with pytest.raises(UserError, match='batch_size is 24, but each process has 23 images'):
        runner.train()


def test_another_sampler_is_refused(folder: Path, tmp_path: Path) -> None:
    runner, _ = build(folder, tmp_path, sampler={'type': 'DefaultSampler'})
    with pytest.raises(UserError, match=r'sampler is DefaultSampler.*EpochShuffle'):
        runner.train()
