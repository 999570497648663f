"""A teacher whose products are in FP8: what it gives, what it leaves alone, and when it does so."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.hooks import Hook
from torch import Tensor

from moca.errors import UserError
from moca.ops import float8
from moca.pretrain.training import float8_teacher
from moca.pretrain.training.check import check_method, check_run
from moca.pretrain.training.float8_teacher import Float8Teacher, check_float8_teacher
from tests.engine.test_epoch_loop import BATCH, build
from tests.images.photographs import save_photographs
from tests.pretrain.tiny import random_views, tiny_method, tiny_moca
from tools.pretrain import configure, parse_args

CLASSES, STEPS = 8, 2


def with_float8(model: Any) -> Any:
    """A model within an epoch that is trained with the option."""
    hook = Float8Teacher()
    said: list[str] = []
    hook.before_train(SimpleNamespace(model=model, logger=SimpleNamespace(info=said.append)))
    assert 'compute in FP8' in said[0]
    hook.before_train_epoch(None)
    return model


def images(seed: int) -> tuple[Tensor, Tensor]:
    """Two views of eight images of each class: patterns of the class, and noise."""
    generator = torch.Generator().manual_seed(0)
    patterns = torch.randn(CLASSES, 3, 4, 4, generator=generator)
    smooth = F.interpolate(patterns, size=48, mode='bicubic').repeat_interleave(8, 0)
    noise = torch.randn(smooth.shape, generator=torch.Generator().manual_seed(seed))
    return smooth + 0.5 * noise, torch.arange(CLASSES).repeat_interleave(8)


def nearest(bank: Tensor, tokens: Tensor) -> Tensor:
    return (F.normalize(tokens, dim=-1) @ F.normalize(bank, dim=-1).T).argmax(-1)


def test_neighbors_and_assignments_are_those_of_bfloat16() -> None:
    plain, ours = tiny_moca(), with_float8(tiny_moca())
    (bank, labels), (queries, _) = images(seed=1), images(seed=2)
    with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
        features = [
            [model.teacher.tokens(view).patches.float() for view in (bank, queries)]
            for model in (plain, ours)
        ]
    (bank_bf16, bf16), (bank_fp8, fp8) = features
    assert not torch.equal(fp8, bf16)
    assert F.cosine_similarity(fp8, bf16, dim=-1).min() > 0.98
    # words are earlier tokens of the teacher
    words = bank_bf16.flatten(0, 1)[::37]
    assert (nearest(words, fp8) == nearest(words, bf16)).float().mean() > 0.9
    accuracy = [
        (labels[nearest(known.mean(1), asked.mean(1))] == labels).float().mean()
        for known, asked in ((bank_bf16, bf16), (bank_fp8, fp8))
    ]
    assert accuracy[0] > 0.9
    assert abs(accuracy[1] - accuracy[0]) <= 0.05


@pytest.mark.parametrize('name', ['MOCAPretrain', 'MACRLPretrain', 'MOMAPretrain'])
def test_the_student_s_gradients_are_nearly_the_same(name: str) -> None:
    gradients = []
    for model in (tiny_method(name), with_float8(tiny_method(name))):
        with torch.autocast('cpu', torch.bfloat16):
            model(**random_views(model, batch=8), mode='loss')['loss'].backward()
        student = model.student.named_parameters()
        gradients.append({n: p.grad.flatten() for n, p in student if p.grad is not None})
        assert all(p.grad is None for n, p in model.named_parameters() if n.startswith('teacher'))
    plain, ours = gradients
    assert plain.keys() == ours.keys()
    assert len(plain) > 40
    every = [torch.cat([*each.values()]) for each in gradients]
    assert F.cosine_similarity(*every, dim=0) > 0.98
    assert not torch.equal(*every)


class Looks(Hook):
    """Runs the teacher in mixed precision after an epoch, as the k-NN monitor does."""

    priority = 'LOWEST'

    def __init__(self, calls: list[int]) -> None:
        self.calls, self.seen = calls, []

    def after_train_epoch(self, runner: Any) -> None:
        before = len(self.calls)
        with torch.no_grad(), torch.autocast('cpu', torch.bfloat16):
            runner.model.teacher.tokens(torch.zeros(1, 3, 32, 32))
        self.seen.append((before, len(self.calls)))


def run(folder: Path, name: str, *hooks: Hook) -> dict[str, Tensor]:
    """The state that an epoch of a tiny MOCA saves last."""
    runner, _ = build(folder / 'images', folder / name, epochs=1)
    runner.model = tiny_moca(img_size=32, words_per_step=2, skip_offset=0)
    runner.model.momentum = 0.9
    optimizer = dict(type='SGD', lr=0.01)
    runner.optim_wrapper = dict(type='AutocastOptimWrapper', optimizer=optimizer)
    for hook in hooks:
        runner.register_hook(hook)
    runner.train()
    return torch.load(folder / name / f'iter_{STEPS}.pth', weights_only=False)['state_dict']


def test_steps_alone_are_in_fp8_and_checkpoints_are_as_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    multiply = float8.float8_linear
    monkeypatch.setattr(float8, 'float8_linear', lambda *given: calls.append(1) or multiply(*given))
    save_photographs(tmp_path / 'images', count=STEPS * BATCH)
    plain = run(tmp_path, 'plain')
    assert not calls
    looks = Looks(calls)
    ours = run(tmp_path, 'fp8', Float8Teacher(), looks)
    # four layers in each of four blocks
    assert looks.seen == [(STEPS * 16, STEPS * 16)]
    assert list(ours) == list(plain)
    assert all(ours[key].dtype == value.dtype for key, value in plain.items())
    name = 'teacher.blocks.3.mlp.fc1.weight'
    assert not torch.equal(ours[name], plain[name])  # by the student's gradients
    torch.testing.assert_close(ours[name], plain[name], rtol=0, atol=1e-3)


class TestRefused:
    def config(self, tmp_path: Path, *options: str) -> Config:
        command = ['configs/pretrain/moca_small.py', '--data-root', str(tmp_path)]
        return configure(parse_args([*command, '--work-dir', str(tmp_path / 'run'), *options]))

    def test_without_the_hardware(self, tmp_path: Path) -> None:
        assert 'fp8_teacher' not in self.config(tmp_path).default_hooks
        cfg = self.config(tmp_path, '--fp8-teacher', '--amp')
        assert cfg.default_hooks.fp8_teacher.type == 'Float8Teacher'
        with pytest.raises(UserError, match='--fp8-teacher: products in FP8 need a GPU'):
            check_run(cfg)

    def test_in_fp32_or_with_shards(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(float8_teacher, 'check_float8', lambda _: None)
        cfg = self.config(tmp_path, '--fp8-teacher', '--no-amp')
        with pytest.raises(UserError, match='part of mixed precision: give --amp'):
            check_float8_teacher(cfg)
        cfg.optim_wrapper.type = 'AutocastOptimWrapper'
        cfg.strategy = dict(type='ShardedStrategy')
        check_float8_teacher(cfg)  # one process shards nothing
        cfg.launcher = 'pytorch'
        with pytest.raises(UserError, match=r'sharded parameters .* strategy=None'):
            check_float8_teacher(cfg)

    def test_without_a_teacher_or_layers(self, tmp_path: Path) -> None:
        cfg = self.config(tmp_path, '--fp8-teacher')
        cfg.model = dict(type='MAEPretrain', backbone=cfg.model.backbone)
        cfg.train_dataloader.dataset.views.views = cfg.train_dataloader.dataset.views.views[:1]
        with pytest.raises(UserError, match='--fp8-teacher: MAEPretrain has no teacher'):
            check_method(cfg)
        odd = tiny_moca()
        for block in odd.teacher.blocks:
            block.attn = block.mlp = torch.nn.Linear(24, 24)
        with pytest.raises(UserError, match='multiples of 16'):
            Float8Teacher().before_train(SimpleNamespace(model=odd))
