"""The replay of recorded backbones, on recordings that timm itself makes here."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor

from tests.backbone.helpers import TINY, random_images, timm_vit
from tests.replay_backbones import main, replay


def record(folder: Path, model: VisionTransformer, **changes: Any) -> Path:
    """Write a recording of timm's model, as a file that carries no normalization."""
    folder.mkdir()
    torch.save(model.state_dict(), folder / 'vit.pth')
    skip = model.num_prefix_tokens
    about = dict(
        family=folder.name,
        checkpoint='vit.pth',
        image_size=32,
        patch_size=8,
        width=32,
        heads=2,
        blocks=3,
        prefix_tokens=skip,
        intermediate_block=1,
        layer_norm_eps=1e-6,
        mean=[0.485, 0.456, 0.406],
        std=[0.229, 0.224, 0.225],
        tolerance=1e-5,
    )
    (folder / 'about.json').write_text(json.dumps({**about, **changes}))
    images = random_images(2, 3, 32, 32)
    with torch.no_grad():
        raw = model.forward_intermediates(
            images,
            indices=[1, 2],
            output_fmt='NLC',
            intermediates_only=True,
            return_prefix_tokens=True,
        )
        last = model.forward_features(images)
    tensors: dict[str, Tensor] = {
        'input.trained': images,
        'output.trained.last': last[:, skip:],
        'output.trained.prefix': last[:, :skip],
        'output.trained.block1': raw[0][0],
        'output.trained.block1_prefix': raw[0][1],
        'output.trained.block2': raw[1][0],
    }
    save_file({k: v.contiguous().clone() for k, v in tensors.items()}, folder / 'io.safetensors')
    return folder


def test_what_timm_computes_is_reproduced(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arch = dict(TINY, reg_tokens=2, no_embed_class=True, init_values=1.0)
    record(tmp_path / 'plain', timm_vit(TINY))
    record(tmp_path / 'with_registers', timm_vit(arch))
    result = replay(tmp_path / 'plain')
    assert result.passed
    assert set(result.errors) == {'last', 'prefix', 'block', 'block prefix'}
    assert main([str(tmp_path)]) == 0
    assert '2 of 2 as recorded' in capsys.readouterr().out


def test_an_altered_output_fails(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = record(tmp_path / 'altered', timm_vit(TINY))
    tensors = load_file(folder / 'io.safetensors')
    tensors['output.trained.block1_prefix'][0, 0, 0] += 1
    save_file(tensors, folder / 'io.safetensors')
    result = replay(folder)
    assert result.errors['block prefix'] > 1e-2
    assert max(v for k, v in result.errors.items() if k != 'block prefix') < 1e-5
    assert main([str(tmp_path)]) == 1
    assert '0 of 1 as recorded' in capsys.readouterr().out


@pytest.mark.parametrize(
    ('changes', 'why'),
    [
        (dict(heads=4), ''),
        (dict(layer_norm_eps=1e-2), ''),
        (dict(mean=[0.5, 0.5, 0.5]), 'mean'),
        (dict(width=64), 'refused'),
    ],
)
def test_what_is_recorded_otherwise_fails(
    changes: dict[str, Any], why: str, tmp_path: Path
) -> None:
    result = replay(record(tmp_path / 'other', timm_vit(TINY), **changes))
    assert not result.passed
    assert why in ' '.join(result.problems)


def test_a_reader_that_refuses_is_a_failure_with_its_reason(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = record(tmp_path / 'strange', timm_vit(TINY))
    torch.save({'strange.weight': torch.ones(2, 2)}, folder / 'vit.pth')
    assert main([str(tmp_path)]) == 1
    assert 'strange: refused: ' in capsys.readouterr().out


def test_a_damaged_file_is_refused_or_gives_finite_features(tmp_path: Path) -> None:
    extra = dict(extra_files={'nan.pth': 'weights that are NaN'})
    folder = record(tmp_path / 'damaged', timm_vit(TINY), **extra)
    state = torch.load(folder / 'vit.pth', weights_only=True)
    state['blocks.0.norm1.weight'][:] = float('nan')
    torch.save(state, folder / 'nan.pth')
    assert replay(folder).passed  # since the reader refuses it


def test_a_folder_without_recordings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 2
    assert 'no about.json' in capsys.readouterr().err
