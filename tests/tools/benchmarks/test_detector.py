"""The detector's benchmark: its versions are one function, and what has no room is left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from moca.errors import UserError
from tests.backbone.helpers import TINY
from tests.configs.helpers import REPOSITORY, shrink, write_coco
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks import detector
from tools.benchmarks.detector import KEPT, PLAIN, measure_detector
from tools.benchmarks.detector_memory import backbone_bytes, free_bytes
from tools.benchmarks.detector_models import (
    StraightforwardViT,
    share_parameters,
    straightforward,
    with_recomputation,
)
from tools.benchmarks.measure import PeakBytes
from tools.benchmarks.table import OURS

CPU = torch.device('cpu')
COCO = REPOSITORY / 'configs/detection/coco'


def tiny(name: str) -> Config:
    return shrink(Config.fromfile(COCO / f'{name}.py'))


def test_versions_are_one_function_of_the_same_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = tiny('vitdet_mask-rcnn')
    cfg.model.backbone.update(window_size=4, drop_path_rate=0.0)  # the whole image of 64 pixels
    cfg.optim_wrapper.optimizer.update(lr=0.0, weight_decay=0.0)
    losses: dict[tuple[type, bool], list[float]] = {}
    whole_step = detector.training_step

    def seeded(model: Any, *args: Any) -> Any:
        step = whole_step(model, *args)
        found = losses.setdefault((type(model.backbone), model.backbone.grad_checkpoint), [])

        def call(number: int) -> None:
            torch.manual_seed(0)  # proposals are sampled
            found.append(step(number)['loss'].item())

        return call

    monkeypatch.setattr(detector, 'training_step', seeded)
    table = measure_detector(cfg, 64, 1, 1, 'float32', CPU, real=False)
    assert list(table.versions) == [PLAIN, OURS, KEPT]
    assert 'left out' not in table.title
    assert len(losses) == 3
    (first, *others) = (loss for found in losses.values() for loss in found)
    assert first > 0
    assert others == pytest.approx([first] * len(others), rel=1e-4)
    assert all(version.bytes > 0 for version in table.versions.values())


def test_plain_attention_is_explicit(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*args: Any, **kwargs: Any) -> None:
        raise AssertionError('fused')

    monkeypatch.setattr(torch.nn.functional, 'scaled_dot_product_attention', refuse)
    cfg = tiny('vitdet_mask-rcnn')
    images = torch.zeros(1, 3, 64, 64)
    plain = MODELS.build(straightforward(cfg).model.backbone)
    assert plain(images)[0].shape == (1, 32, 4, 4)
    assert all(block.attn.window_size is None for block in plain.blocks)
    with pytest.raises(AssertionError, match='fused'):
        MODELS.build(cfg.model.backbone)(images)


@pytest.mark.parametrize('frozen', [False, True])
def test_need_is_what_a_real_pass_needs(frozen: bool) -> None:
    backbone = dict(arch=dict(TINY, img_size=64), out_indices=(0, 2), final_norm=False)
    needs = []
    for kind, recompute in ((StraightforwardViT, False), ('PlainViT', False), ('PlainViT', True)):
        options = dict(backbone, type=kind, grad_checkpoint=recompute, frozen=frozen)
        vit = MODELS.build(options).train()
        images = torch.randn(2, 3, 64, 64)
        with PeakBytes() as memory:
            maps = vit(images)
            if not frozen:
                torch.autograd.backward(maps, [torch.ones_like(single) for single in maps])
        needs.append(backbone_bytes(options, 2, 64, 'float32'))
        assert needs[-1] == pytest.approx(memory.peak, rel=0.1)
    plain, kept, recomputed = needs
    assert recomputed < kept < plain or (frozen and recomputed == kept < plain)


@pytest.mark.parametrize(
    ('free', 'left'),
    [
        (2**20, [OURS]),
        (7 * 2**30, [OURS]),  # 5 GiB would fit, but not with the margin
        (11 * 2**30, [OURS, KEPT]),
        (2**50, [PLAIN, OURS, KEPT]),
    ],
)
def test_versions_without_room_are_left_out(
    free: int, left: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def need(backbone: dict[str, Any], *args: Any) -> int:
        if backbone['type'] is StraightforwardViT:
            return 8 * 2**30
        return 2**30 if backbone['grad_checkpoint'] else 4 * 2**30

    monkeypatch.setattr(detector, 'free_bytes', lambda: free)
    monkeypatch.setattr(detector, 'backbone_bytes', need)
    monkeypatch.setattr(detector, 'peak_bytes', lambda *_: 2 * 2**30)  # of ours
    monkeypatch.setattr(detector, 'measure_versions', lambda calls, *_: calls)
    table = measure_detector(tiny('vitdet_mask-rcnn'), 64, 1, 1, 'float32', CPU, real=False)
    assert list(table.versions) == left
    for name, gib in ((PLAIN, 9), (KEPT, 5)):
        message = f'\n{name}: left out, it needs about {gib}.0 GiB'
        assert (message in table.title) == (name not in left)
    assert '\nplain: without relative positions' in table.title


def test_free_memory_is_no_more_than_there_is() -> None:
    free = free_bytes()
    assert free is None or 0 < free < 2**50


def test_parameters_are_shared_by_name() -> None:
    source, model = (torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.ReLU()) for _ in range(2))
    share_parameters(model, source)
    assert all(a is b for a, b in zip(model.parameters(), source.parameters(), strict=True))
    with pytest.raises(ValueError, match=r'0\.weight'):
        share_parameters(torch.nn.Sequential(torch.nn.Linear(3, 2)), source)


def test_recomputation_is_switched_in_a_copy() -> None:
    cfg = tiny('vitdet_mask-rcnn')
    assert with_recomputation(cfg, True).model.backbone.grad_checkpoint is True
    assert cfg.model.backbone.grad_checkpoint is False


@pytest.mark.parametrize(('size', 'task'), [(0, 'detection'), (64, 'segmentation')])
def test_refuses_nonsense(size: int, task: str) -> None:
    cfg = Config(dict(protocol=dict(task=task)))
    with pytest.raises(UserError, match='--size 0' if size == 0 else 'no detector'):
        measure_detector(cfg, size, 1, 1, 'float32', CPU, real=False)


def test_command_takes_real_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_coco(tmp_path / 'coco')
    config = tmp_path / 'toy.py'
    tiny('cascade-mask-rcnn_1x').dump(config)
    arguments = [f'--data-root={root}', '--size=64', '--steps=1', '--device=cpu']
    benchmark.main(['detector', str(config), *arguments])
    output = capsys.readouterr().out
    assert 'ours / plain' in output
    assert 'relative positions' not in output
