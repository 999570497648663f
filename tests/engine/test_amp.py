"""Mixed precision against torch's own recipe, written out by hand."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.optim import build_optim_wrapper
from torch import Tensor, nn

from moca.engine.amp import (
    DTYPES,
    AutocastDtypeHook,
    AutocastOptimWrapper,
    enable_amp,
    gpu_has_bfloat16,
)
from moca.errors import UserError

DEVICE = get_device()  # the wrapper's choice as well


class Net(nn.Module):
    """Two layers, an attention-like product and a loss; counts unsynchronized steps as DDP does."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(16, 64), nn.GELU(), nn.Linear(64, 4))
        self.unsynchronized = 0

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)

    @contextmanager
    def no_sync(self) -> Iterator[None]:
        self.unsynchronized += 1
        yield


def data() -> list[Tensor]:
    return list(torch.randn(6, 8, 16, generator=torch.Generator().manual_seed(0)).to(DEVICE))


def loss_of(output: Tensor) -> Tensor:
    return output.float().square().mean()


def build(model: nn.Module, **kwargs: object) -> AutocastOptimWrapper:
    optimizer = dict(type='AdamW', lr=1e-2, fused=True)
    return build_optim_wrapper(
        model, dict(type='AutocastOptimWrapper', optimizer=optimizer) | kwargs
    )


def test_steps_equal_autocast_by_hand() -> None:
    torch.manual_seed(0)
    model = Net().to(DEVICE)
    reference = copy.deepcopy(model)
    wrapper = build(model, accumulative_counts=2, clip_grad=dict(max_norm=0.05))
    wrapper.initialize_count_status(model, 0, 6)
    for x in data():
        with wrapper.optim_context(model):
            output = model(x)
        assert output.dtype == torch.bfloat16
        wrapper.update_params(loss_of(output))
    assert model.unsynchronized == 3  # the first of each pair

    optimizer = torch.optim.AdamW(reference.parameters(), lr=1e-2, fused=True)
    for step, x in enumerate(data()):
        with torch.autocast(DEVICE, torch.bfloat16):
            output = reference(x)
        (loss_of(output) / 2).backward()
        if step % 2:
            norm = nn.utils.clip_grad_norm_(reference.parameters(), 0.05)
            assert norm > 0.05  # so that clipping is put to the test
            optimizer.step()
            optimizer.zero_grad()
    for ours, theirs in zip(model.parameters(), reference.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=0, atol=0)
        assert ours.dtype == torch.float32


def test_float16_skips_overflows_and_halves_the_scale() -> None:
    model = Net().to(DEVICE)
    wrapper = build(model, dtype='float16', init_scale=2.0**40)
    before = copy.deepcopy(model.state_dict())
    with wrapper.optim_context(model):
        output = model(data()[0])
    assert output.dtype == torch.float16
    wrapper.update_params(loss_of(output))  # gradients in fp16 overflow at this scale
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert wrapper.scaler.get_scale() == 2.0**39
    resumed = build(model, dtype='float16')
    resumed.load_state_dict(wrapper.state_dict())
    assert resumed.scaler.get_scale() == 2.0**39


def test_state_round_trip_with_a_plain_wrapper() -> None:
    model = Net().to(DEVICE)
    wrapper = build(model)
    with wrapper.optim_context(model):
        loss = loss_of(model(data()[0]))
    wrapper.update_params(loss)
    plain = build_optim_wrapper(
        model, dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=1.0))
    )
    plain.load_state_dict(wrapper.state_dict())
    assert plain.param_groups[0]['lr'] == 1e-2
    build(model).load_state_dict(plain.state_dict())


def test_unknown_dtype() -> None:
    with pytest.raises(UserError, match=r'dtype=.*bfloat16'):
        build(Net(), dtype='bf16')


def test_hook_sets_the_type_of_validation_and_puts_it_back() -> None:
    before = torch.get_autocast_dtype(DEVICE)
    other = 'bfloat16' if before == torch.float16 else 'float16'
    hook = AutocastDtypeHook(other)
    hook.before_run(None)
    assert torch.get_autocast_dtype(DEVICE) == DTYPES[other]
    hook.after_run(None)
    assert torch.get_autocast_dtype(DEVICE) == before


@pytest.mark.parametrize('wrapper', ['OptimWrapper', 'AmpOptimWrapper'])
def test_enable_amp(wrapper: str) -> None:
    cfg = Config(
        dict(
            optim_wrapper=dict(type=wrapper, optimizer=dict(type='SGD', lr=1), clip_grad=None),
            val_cfg=dict(type='ValLoop'),
            test_cfg=None,
        )
    )
    if wrapper == 'AmpOptimWrapper':
        cfg.optim_wrapper.update(loss_scale='dynamic', dtype='float16')
    enable_amp(cfg)
    assert cfg.optim_wrapper.type == 'AutocastOptimWrapper'
    assert 'loss_scale' not in cfg.optim_wrapper
    if wrapper == 'AmpOptimWrapper':
        assert cfg.optim_wrapper.dtype == 'float16'
    assert cfg.val_cfg.fp16 is True
    cfg.val_cfg.fp16 = False  # a recipe whose source validates in fp32
    enable_amp(cfg)
    assert cfg.val_cfg.fp16 is False
    assert cfg.default_hooks.autocast.dtype == cfg.optim_wrapper.dtype


def test_enable_amp_refuses_what_it_does_not_know() -> None:
    with pytest.raises(UserError, match='ApexOptimWrapper'):
        enable_amp(Config(dict(optim_wrapper=dict(type='ApexOptimWrapper'))))


@pytest.mark.parametrize('native', [True, False])
def test_a_gpu_without_bfloat16_gets_float16_where_it_is_asked_for(
    native: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    # emulated, torch calls it supported on cards that lack it
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    monkeypatch.setattr(
        torch.cuda,
        'is_bf16_supported',
        lambda including_emulation=True: including_emulation | native,
    )
    cfg = Config(dict(optim_wrapper=dict(type='OptimWrapper')))
    enable_amp(cfg)
    assert cfg.optim_wrapper.dtype == ('bfloat16' if native else 'float16')
    assert gpu_has_bfloat16() is native  # by itself, mixed precision is on only with bfloat16
