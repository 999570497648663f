"""What the methods cost: counted FLOPs against closed forms and published ratios."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from moca.engine.measure import step_flops
from moca.pretrain.can import NoisyDraws
from moca.pretrain.decoder import decoder_size
from moca.pretrain.masking import MaskRound
from tests.configs.helpers import REPOSITORY
from tools import benchmark

FULL = dict(dim=512, depth=8, num_heads=16)


def blocks(tokens: int, width: int, depth: int) -> int:
    """FLOPs of transformer blocks: 12 C^2 weights a token and block, and attention."""
    return depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


def forward_costs(arch: str, decoder: dict[str, int] | None = None) -> tuple[int, int]:
    """Counted FLOPs of one picture's forward pass of CAN and of SimCLR, which masks nothing."""
    with torch.device('meta'):
        backbone = dict(type='PlainViT', arch=arch, img_size=224)
        model = MODELS.build(dict(type='CANPretrain', backbone=backbone, decoder=decoder))
        views = torch.empty(2, 3, 224, 224)
        mask = MaskRound(torch.empty(2, 196, dtype=torch.long), model.visible, 196)
        draws = NoisyDraws(mask, torch.empty(2), torch.empty_like(views))
    model.eval()

    def simclr(_: int) -> Tensor:
        return model.projector(model.student.tokens(views).patches.mean(1))

    with torch.no_grad():
        return step_flops(lambda _: model.outputs(views, draws)), step_flops(simclr)


def test_simclr_costs_1_7_times_as_much_as_can_for_vit_large() -> None:
    can, simclr = forward_costs('vit_large_patch16')
    assert 1.65 <= simclr / can <= 1.75  # published: 1.70
    # both in closed form: patches of 16 x 16 x 3, encoder, projector, decoder with its head
    width, patch = 1024, 768
    projector = 2 * 2 * (width * 4096 + 4096**2 + 4096 * 128)
    embed = 2 * 2 * 196 * patch * width
    assert simclr == pytest.approx(2 * blocks(197, width, 24) + embed + projector, rel=1e-3)
    decoder = blocks(197, 512, 8) + 2 * 197 * width * 512 + 2 * 196 * 512 * patch
    encoder = 2 * blocks(99, width, 24)
    assert can == pytest.approx(encoder + embed + projector + 2 * decoder, rel=1e-3)


def test_the_decoder_shrinks_with_the_encoder() -> None:
    assert decoder_size(768, 12) == decoder_size(1024, 24) == FULL
    assert decoder_size(384, 12) == dict(dim=256, depth=8, num_heads=8)
    assert decoder_size(192, 12) == dict(dim=128, depth=8, num_heads=4)
    assert decoder_size(16, 1) == dict(dim=32, depth=1, num_heads=1)
    # with MAE's decoder CAN would cost more than SimCLR for ViT-S, though it sees half
    can, simclr = forward_costs('vit_small_patch16', FULL)
    assert can > simclr
    can, simclr = forward_costs('vit_small_patch16')
    assert can < 0.85 * simclr


def mae_step(width: int, seen: int) -> int:
    """A step of four pictures of 2 x 2 patches of 8 pixels, with a decoder of 8 blocks x 128."""
    embed, head = 2 * 4 * 192 * width, 2 * (4 - seen) * 128 * 192
    decoder = blocks(5, 128, 8) + 2 * (1 + seen) * width * 128
    forward = embed + blocks(1 + seen, width, 12) + decoder + head
    # twice as much backward, but no gradient for the pictures
    return 4 * (3 * forward - embed)


@pytest.mark.parametrize('name', ['mae', 'can', 'macrl', 'moma'])
def test_the_benchmark_prints_every_methods_flops(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ['model.backbone.img_size=16', 'train_dataloader.dataset.views.size=16']
    if name in ('can', 'macrl'):
        options.append('model.projector.hidden_dim=64')
    config = str(REPOSITORY / f'configs/pretrain/{name}_tiny-imagenet.py')
    arguments = ['--batch-size=4', '--steps=1', '--device=cpu', '--dtype=float32']
    assert benchmark.main(['pretrain', config, *arguments, '--cfg-options', *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith(f'{name.upper()}Pretrain')
    assert 'straightforward' not in printed
    row = re.search(r'^moca +[\d.]+ +[\d.]+ +[\d.]+ +([\d.]+)', printed, re.MULTILINE)
    assert row is not None
    expected = mae_step(192, seen=1) / 1e9
    if name == 'mae':
        assert float(row[1]) == pytest.approx(expected, abs=0.06)
    else:
        assert float(row[1]) > expected  # more views, or whole pictures for two teachers
