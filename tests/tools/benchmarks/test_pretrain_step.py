"""The benchmark of a training step: what it compares is the same step, what it counts is right."""

from __future__ import annotations

import re
import warnings
from pathlib import Path

import pytest
import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from moca.engine.amp import fast_bfloat16
from moca.engine.cli import read_config
from moca.pretrain.moca.plain import PlainMOCA
from tests.pretrain.tiny import tiny_moca
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks.measure import PeakBytes, known_peak, step_flops, take_turns
from tools.benchmarks.plain_step import PlainStep
from tools.benchmarks.pretrain_step import measure_step

CPU = torch.device('cpu')
CONFIG = str(Path(__file__).parents[3] / 'configs/pretrain/moca_tiny-imagenet.py')
TINY = [
    '--batch-size=4',
    '--steps=2',
    '--device=cpu',
    '--cfg-options',
    'model.backbone.img_size=32',
    'train_dataloader.dataset.views.size=32',
    'model.words_per_step=2',
    'model.num_words=16',
]


def views(batch: int, seed: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, 48, 48, generator=generator) for _ in range(2)]


class TestPlainStep:
    def test_same_losses_gradients_and_state_as_ours(self) -> None:
        ours = tiny_moca()
        generator = torch.Generator().manual_seed(1)
        for parameter in ours.student.parameters():  # away from the teacher and from zero
            parameter.data += 0.02 * torch.randn(parameter.shape, generator=generator)
        ours.momentum = 0.9
        plain = PlainMOCA(ours)
        for step in range(3):
            ours.step = step
            draws = ours.draw(4, CPU)
            pair = views(4, step)
            losses = ours(*pair, draws=draws, mode='loss')
            expected = plain(*pair, draws)
            for name, value in expected.items():
                torch.testing.assert_close(losses[name], value, rtol=1e-5, atol=0)
            losses['loss'].backward()
            expected['loss'].backward()
            self.compare_gradients(ours, plain)
            for model in (ours, plain):
                for parameter in model.parameters():
                    if parameter.grad is not None:
                        parameter.data -= 0.1 * parameter.grad
                        parameter.grad = None
        # teacher, codebook and BatchNorm's statistics as well
        state = ours.state_dict()
        assert state.keys() == plain.state_dict().keys()
        for name, value in plain.state_dict().items():
            torch.testing.assert_close(state[name], value, rtol=1e-5, atol=1e-6, msg=name)
        assert state['codebook.pointer'].item() == 12

    @staticmethod
    def compare_gradients(ours: nn.Module, plain: nn.Module) -> None:
        theirs = dict(plain.named_parameters())
        compared = 0
        for name, parameter in ours.named_parameters():
            expected = theirs[name].grad
            assert (parameter.grad is None) == (expected is None), name
            if expected is not None:
                difference = (parameter.grad - expected).abs().max()
                # the key's bias has a true gradient of zero: its rounding counts in full
                assert difference <= 1e-5 * expected.abs().max() + 1e-8, name
                compared += 1
        assert compared > 50

    def test_bf16_is_near_fp32(self) -> None:
        ours = tiny_moca()
        draws = ours.draw(4, CPU)
        losses = []
        for dtype in (torch.float32, torch.bfloat16):
            plain = PlainMOCA(ours)
            groups = [{'params': [p for p in plain.parameters() if p.requires_grad]}]
            step = PlainStep(plain, groups, dict(lr=1e-3), 0.1, dtype)
            before = plain.student.norm.bias.clone()
            losses.append(step(*views(4, 0), draws)['loss'].detach())
            assert not torch.equal(before, plain.student.norm.bias)
        torch.testing.assert_close(losses[1], losses[0], rtol=2e-2, atol=0)


class TestPeakBytes:
    def test_known_case(self) -> None:
        before = torch.zeros(1000)  # 4000 bytes that do not count
        with PeakBytes() as counter:
            first = before + 1
            first.mul_(2)
            before.add_(1)
            view = first.view(10, 100)[:5]
            assert (counter.now, counter.peak) == (4000, 4000)
            second = first.double()
            assert (counter.now, counter.peak) == (12000, 12000)
            del second
            assert counter.now == 4000
            third = torch.cat([first, first[:500]])
            del first
            assert counter.now == 10000  # the view keeps it
            del view, third
        assert (counter.now, counter.peak) == (0, 12000)

    def test_what_autograd_keeps_counts(self) -> None:
        x = torch.zeros(1000, requires_grad=True)
        with PeakBytes() as counter:
            total = x.exp().sum()  # exp keeps its result
            assert counter.now == 4000 + 4
            total.backward()
            assert counter.peak >= 8000
            del total
        assert counter.now == 4000  # the gradient
        x.grad = None
        assert counter.now == 0

    def test_equals_the_allocator_over_a_step(self) -> None:
        model = tiny_moca()

        def step() -> None:
            model(*views(4, 0), mode='loss')['loss'].backward()
            model.zero_grad()

        step()
        with PeakBytes() as counter:
            step()
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
                step()
        events = [
            (event.start_ns(), event.nbytes())
            for event in profiler.profiler.kineto_results.events()
            if event.name() == '[memory]'
        ]
        alive = peak = 0
        for _, change in sorted(events, key=lambda event: event[0]):
            alive += change
            peak = max(peak, alive)
        assert counter.peak == pytest.approx(peak, rel=0.02)


def test_flops_of_a_step_in_closed_form() -> None:
    model = tiny_moca()
    pair = views(4, 0)
    # 8 views of 36 patches of 192 numbers; a ViT of 4 blocks x 32, a decoder of 1 block x 24
    N, L, P, C, D, K = 8, 36, 192, 32, 24, 64
    rounds = ((16, 23), (9, 16))  # visible and decoded

    def blocks(tokens: int, width: int, depth: int) -> int:
        # qkv, projection and MLP: 12 width^2 multiplications and additions; q k^T and a v
        return depth * (24 * tokens * width**2 + 4 * tokens**2 * width)

    embed = 2 * L * P * C
    teacher = N * (embed + blocks(L + 1, C, 4))
    visible_embed = N * sum(2 * visible * P * C for visible, _ in rounds)
    student = N * sum(blocks(visible + 1, C, 4) for visible, _ in rounds)
    decoder = N * sum(
        2 * (visible + 1) * C * D + blocks(decoded + 1, D, 1) for visible, decoded in rounds
    )
    first = 2 * K * C * 2 * C  # to the hidden layer of a prototype generator
    second = 2 * K * 2 * C * (C + D)
    skip = 2 * K * C * D
    logits = 2 * K * (len(rounds) * N * C + N * sum(decoded for _, decoded in rounds) * D)
    codes = 2 * N * L * C * K
    # backward: two products for each forward, one where the input needs no gradient
    expected = (
        teacher
        + codes
        + 2 * (visible_embed + 2 * first + skip)
        + 3 * (student + decoder + second + logits)
    )
    assert step_flops(lambda _: model(*pair, mode='loss')['loss'].backward()) == expected
    plain = PlainMOCA(model)
    draws = model.draw(4, CPU)
    # it embeds all patches in each round, and has gradients of that
    more = 2 * (len(rounds) * N * embed - visible_embed)
    assert step_flops(lambda _: plain(*pair, draws)['loss'].backward()) == expected + more


def test_peaks_of_gpus() -> None:
    assert known_peak('NVIDIA H100 80GB HBM3', torch.bfloat16) == 989e12
    assert known_peak('NVIDIA H100 PCIe', torch.bfloat16) == 756e12
    assert known_peak('NVIDIA L40S', torch.bfloat16) == 362e12
    assert known_peak('NVIDIA A100-SXM4-80GB', torch.float32) == 19.5e12
    assert known_peak('another one', torch.bfloat16) is None
    torch.set_float32_matmul_precision('high')
    try:
        assert known_peak('NVIDIA A100-SXM4-80GB', torch.float32) == 156e12
    finally:
        torch.set_float32_matmul_precision('highest')


def test_versions_take_turns() -> None:
    calls: list[tuple[str, int]] = []
    versions = {name: lambda number, name=name: calls.append((name, number)) for name in 'ab'}
    seconds = take_turns(versions, 2, CPU)
    assert calls == [('a', 0), ('b', 0), ('b', 1), ('a', 1), ('a', 2), ('b', 2)]
    assert [len(seconds[name]) for name in 'ab'] == [2, 2]


# emulated bfloat16 takes two minutes for what fp32 takes in seconds
DTYPES = ['float32', pytest.param('bfloat16', marks=[] if fast_bfloat16() else pytest.mark.slow)]


@pytest.mark.parametrize('dtype', DTYPES)
def test_the_tool(capsys: pytest.CaptureFixture[str], dtype: str) -> None:
    arguments = ['pretrain', CONFIG, f'--dtype={dtype}', *TINY]
    assert benchmark.main(arguments) == 0
    printed = capsys.readouterr().out
    assert f'{dtype}; a step takes 4 images of 2 views, 32 px' in printed
    rows = {line.split()[0]: line.split()[1:] for line in printed.splitlines()}
    ours, plain = (rows[name] for name in ('ours', 'straightforward'))
    assert float(ours[0]) == pytest.approx(4 / float(ours[1]), rel=0.2)
    memory = float(rows['ratio'][1])
    assert memory == pytest.approx(float(ours[2]) / float(plain[2]), abs=0.05)
    assert 'dense KL alone' in printed


@MODELS.register_module()
class _OneLinear(BaseModel):
    """A method that is not MOCA."""

    def __init__(self, backbone: dict) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, 8)

    def forward(self, view1: Tensor, mode: str, **_: Tensor) -> dict[str, Tensor]:
        return dict(loss=self.layer(view1.flatten(1)).square().mean())


def test_another_method_stands_alone() -> None:
    cfg = read_config(CONFIG)
    cfg.model = dict(type='_OneLinear', backbone=dict(arch='vit_tiny_patch8'))
    cfg.optim_wrapper.paramwise_cfg = dict(constant_lr={})
    cfg.train_dataloader.dataset.views.size = 32
    found = measure_step(cfg, 4, 2, 'float32', CPU)
    assert list(found.versions) == ['ours']
    # forward and weight gradient of 3072 -> 8
    assert found.versions['ours'].flops == 2 * (2 * 4 * 3072 * 8)
    assert found.dense_kl is None
    assert 'straightforward' not in str(found)
    assert re.search(r'ours +[\d.]+ ', str(found))


def test_bad_input(capsys: pytest.CaptureFixture[str]) -> None:
    for option, message in (
        ('--steps=0', '--steps is 0'),
        ('--batch-size=0', '--batch-size is 0'),
        ('--batch-size=3', 'words_per_step=8'),
        ('--arch=vit_tinny', "'vit_tinny' is no timm ViT"),
    ):
        assert benchmark.main(['pretrain', CONFIG, '--device=cpu', option]) == 2
        assert message in capsys.readouterr().err
    downstream = str(Path(CONFIG).parents[1] / 'segmentation/cityscapes')
    config = next(Path(downstream).glob('*.py'))
    assert benchmark.main(['pretrain', str(config)]) == 2
    assert 'no pre-training' in capsys.readouterr().err
