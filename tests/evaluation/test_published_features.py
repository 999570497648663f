"""First numbers of features, and what was published of them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint
from moca.evaluation import published_features
from moca.evaluation.published_features import IMAGE, first_numbers, published_numbers
from tests.backbone.helpers import TINY, randomize, save
from tools import checkpoint

ROPE = dict(
    TINY, rope=dict(base=100.0), reg_tokens=4, norm_eps=1e-5, patch_size=16, init_values=1.0
)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / IMAGE
    pixels = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def test_numbers_are_of_the_whole_image_as_a_square(image: Path) -> None:
    model = PlainViT(TINY, img_size=224)
    randomize(model, 1)
    model.eval()
    pixels = torch.tensor(np.asarray(Image.open(image).convert('RGB'))).permute(2, 0, 1) / 255
    square = F.interpolate(pixels[None], (224, 224), mode='bilinear', antialias=True)
    mean, std = (torch.tensor(part)[:, None, None] for part in (model.mean, model.std))
    with torch.no_grad():
        expected = model((square - mean) / std)[-1][0, :5, 0, 0]
    found = first_numbers(model, image)
    torch.testing.assert_close(torch.tensor(found.patch), expected)
    assert len(found.class_token) == 5


def test_the_tool_holds_a_file_against_them(
    image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    model = PlainViT(ROPE)
    randomize(model, 1)
    state = {key.replace('reg_token', 'storage_tokens'): v for key, v in model.state_dict().items()}
    state = {key.replace('rope.', 'rope_embed.'): value for key, value in state.items()}
    path = save(state, tmp_path / 'dinov3.pth')
    info = inspect_checkpoint(path)
    assert 'DINOv3' in info.family
    assert published_numbers(info) is None  # of this width nothing was published
    small = published_numbers(replace(info, embed_dim=384, gated=True))
    assert small is not None
    assert small[0] == 'DINOv3 ViT-S+/16'
    model.eval()
    numbers = first_numbers(model, image)
    table = {(32, False): ('ours', numbers.class_token, numbers.patch)}
    monkeypatch.setattr(published_features, '_DINOV3', table)
    line = ['inspect', str(path), '--image', str(image), '--arch', 'auto']
    heads = ['--arch', str(_config(tmp_path))] if info.arch is None else line[-2:]
    assert checkpoint.main([*line[:-2], *heads]) == 0
    out = capsys.readouterr().out
    assert 'a class token, 4 registers, patches' in out
    assert 'rotary (dinov3, base 100)' in out
    assert 'as published' in out
    table[32, False] = ('ours', numbers.class_token, tuple(v + 1 for v in numbers.patch))
    assert checkpoint.main([*line[:-2], *heads]) == 0
    assert 'another training of the same shape' in capsys.readouterr().out


def _config(folder: Path) -> Path:
    path = folder / 'arch.py'
    path.write_text(f'model = dict(backbone=dict(arch={ROPE!r}))\n')
    return path
