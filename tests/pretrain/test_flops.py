"""What the methods cost: counted FLOPs against closed forms and published ratios."""

from __future__ import annotations

import re

import pytest
import torch
from mmengine.registry import MODELS
from torch import Tensor

from moca.engine.cli import parse_cfg_options, read_config
from moca.pretrain.can import NoisyDraws
from moca.pretrain.parts.decoder import decoder_size
from moca.pretrain.parts.masking import MaskRound
from tests.configs.helpers import REPOSITORY
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks.measure import step_flops
from tools.benchmarks.pretrain_step import measure_step

FULL = dict(dim=512, depth=8, num_heads=16)


def blocks(tokens: int, width: int, depth: int) -> int:
    """FLOPs of transformer blocks: 12 C^2 weights a token and block, and attention."""
    return depth * (2 * tokens * 12 * width**2 + 4 * tokens**2 * width)


def forward_costs(arch: str, decoder: dict[str, int] | None = None) -> tuple[int, int]:
    """Counted FLOPs of one image's forward pass of CAN and of SimCLR, which masks nothing."""
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
    embed = 2 * 2 * 98 * patch * width  # of the patches that it sees
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


# Of an image of 2 x 2 patches of 8 pixels (192 numbers), of which an encoder of 12 blocks x 192
# sees some, with a class token; decoders of 8 blocks x 128, projectors 192-64-64-D. A backward pass
# costs twice its forward pass, but no gradient is needed for images.
WIDTH = 192


def embed(seen: int) -> int:
    return 2 * seen * 192 * WIDTH


def encoder(seen: int) -> int:
    return embed(seen) + blocks(1 + seen, WIDTH, 12)


def decoder(embedded: int, predicted: int) -> int:
    return 2 * embedded * WIDTH * 128 + blocks(5, 128, 8) + 2 * predicted * 128 * 192


def projector(out: int) -> int:
    return 2 * (WIDTH * 64 + 64 * 64 + 64 * out)


def mae_image() -> int:
    return 3 * (encoder(1) + decoder(1 + 1, 3)) - embed(1)


def can_image() -> int:
    sigma = 2 * WIDTH**2  # of each layer; the first one's input is a constant
    view = encoder(2) + decoder(1 + 4, 4) + projector(128)
    cosines = 2 * 8 * 128  # of a view with all eight
    return 2 * (3 * (view + 2 * sigma + cosines) - embed(2) - sigma)


def macrl_image() -> int:
    views = sum(encoder(seen) + decoder(1 + seen, 4 - seen) for seen in (1, 2))
    key = encoder(2) + projector(256)
    bank = 2 * 512 * 256  # whose keys get no gradient
    return 3 * (views + projector(256)) - embed(1 + 2) + key + 2 * bank


def moma_image() -> int:
    teachers = 2 * encoder(4)
    projectors = 2 * 2 * (1 + 1) * WIDTH**2
    return 3 * (encoder(1) + projectors) - embed(1) + teachers


@pytest.mark.parametrize(
    ('name', 'image'),
    [
        ('mae', mae_image()),
        ('can', can_image()),
        ('macrl', macrl_image()),
        ('moma', moma_image()),
    ],
)
def test_the_benchmark_counts_every_methods_flops(name: str, image: int) -> None:
    options = ['model.backbone.img_size=16', 'train_dataloader.dataset.views.size=16']
    if name in ('can', 'macrl'):
        options.append('model.projector.hidden_dim=64')
    path = str(REPOSITORY / f'configs/pretrain/{name}_tiny-imagenet.py')
    found = measure_step(
        read_config(path, parse_cfg_options(options)),
        *(4, 1, 'float32', torch.device('cpu')),
    )
    assert list(found.versions) == ['ours']
    assert found.versions['ours'].flops == pytest.approx(4 * image, rel=2e-3)


def test_the_command_prints_flops(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(REPOSITORY / 'configs/pretrain/mae_tiny-imagenet.py')
    arguments = ['--batch-size=64', '--steps=1', '--device=cpu', '--dtype=float32']
    options = ['model.backbone.img_size=16', 'train_dataloader.dataset.views.size=16']
    assert benchmark.main(['pretrain', config, *arguments, '--cfg-options', *options]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith('MAEPretrain')
    assert 'straightforward' not in printed
    row = re.search(r'^ours +[\d.]+ +[\d.]+ +[\d.]+ +([\d.]+)', printed, re.MULTILINE)
    assert row is not None
    assert float(row[1]) == pytest.approx(64 * mae_image() / 1e9, rel=0.02)
