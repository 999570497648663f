"""A batch without enough memory is refused with the number of images that has it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from moca.engine import too_large
from moca.errors import UserError
from tests.engine.test_epoch_loop import TwoViewRegression, build
from tests.images.photographs import save_photographs


@pytest.mark.parametrize(
    ('memory', 'processes', 'said'),
    [
        (
            2,
            1,
            r'batch_size=4: .* of TwoViewRegression on this cpu\. 2 at a time fit: .*size=2, '
            r'and --accumulate 2 for',
        ),
        (1, 1, r'1 at a time fit: .*batch_size=1, and --accumulate 4 for'),
        (0, 1, 'Not even one image fits'),
        (2, 2, r'Give half of it by .*batch_size=2, and twice'),
    ],
)
def test_the_number_that_fits_is_named(
    memory: int, processes: int, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried: list[int] = []
    step = TwoViewRegression.train_step

    def train_step(self: TwoViewRegression, data: dict[str, Any], **options: Any) -> Any:
        tried.append(len(data['view1']))
        assert len(data['index']) == len(data['view1'])
        if len(data['view1']) > memory:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return step(self, data, **options)

    monkeypatch.setattr(TwoViewRegression, 'train_step', train_step)
    monkeypatch.setattr(too_large, 'get_world_size', lambda: processes)
    save_photographs(tmp_path / 'images', count=8)
    runner, _ = build(tmp_path / 'images', tmp_path / 'run')
    with pytest.raises(UserError, match=said):
        runner.train()
    assert runner.iter == 0
    assert not list(tmp_path.glob('run/*.pth'))
    # four times what fits: two steps in two parts
    fits = [[], [1] * 4, [2] * 4][memory]
    assert tried == ([4] if processes > 1 else [4, *(n for n in (2, 1) if n > memory), *fits])


def test_the_parts_are_of_one_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(too_large, '_fits', lambda runner, batch: len(batch['view1']) <= 4)
    save_photographs(tmp_path / 'images', count=8)
    runner, _ = build(tmp_path / 'images', tmp_path / 'run', batch_size=6)
    batch = dict(view1=torch.zeros(9, 3, 4, 4), index=torch.arange(9))
    for accumulate, said in ((1, 'size=3, and --accumulate 3 for'), (4, 'size=4, .* 9 for')):
        assert re.search(said, str(too_large.too_large(runner, batch, accumulate)))


def test_what_lies_beside_the_activations_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gradients of the part before and the optimizer's state take the place of an image."""
    step = TwoViewRegression.train_step
    steps = 0

    def train_step(self: TwoViewRegression, data: dict[str, Any], optim_wrapper: Any) -> Any:
        nonlocal steps
        if len(data['view1']) > 2:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        beside = self.project.weight.grad is not None and bool(optim_wrapper.optimizer.state)
        steps += not beside
        if len(data['view1']) + beside > 2:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        return step(self, data, optim_wrapper=optim_wrapper)

    monkeypatch.setattr(TwoViewRegression, 'train_step', train_step)
    save_photographs(tmp_path / 'images', count=8)
    runner, _ = build(tmp_path / 'images', tmp_path / 'run')
    with pytest.raises(UserError, match=r' 1 at a time fit: .*batch_size=1, and --accumulate 4'):
        runner.train()
    assert steps == 3 + 2  # of two images, before there was all, and of one from then on


def test_what_a_method_says_of_fewer_images_is_heard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train_step(self: TwoViewRegression, data: dict[str, Any], **_: Any) -> Any:
        if len(data['view1']) > 2:
            raise torch.OutOfMemoryError('CUDA out of memory.')
        raise UserError('words_per_step=4 needs as many distinct images.')

    monkeypatch.setattr(TwoViewRegression, 'train_step', train_step)
    save_photographs(tmp_path / 'images', count=8)
    runner, _ = build(tmp_path / 'images', tmp_path / 'run')
    with pytest.raises(UserError, match=r'size=4: there is not .* Of 2 at a time: words_per_step'):
        runner.train()
