"""Checkpoints read into a ViT with windows."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from moca.backbone import PlainViT
from moca.checkpoints import load_checkpoint
from moca.errors import CheckpointMismatch
from tests.backbone.helpers import TINY, randomize, save, timm_vit


def test_relative_positions_may_be_absent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    logged: list[str] = []
    monkeypatch.setattr('moca.checkpoints.loading.print_log', lambda text, **_: logged.append(text))
    file = save(timm_vit(TINY).state_dict(), tmp_path / 'vit.pth')
    model = PlainViT(
        TINY,
        window_size=2,
        global_blocks=(1,),
        rel_pos=True,
        init_cfg=dict(type='ViTCheckpoint', checkpoint=str(file)),
    )
    randomize(model, seed=1)  # what was there before must not stay
    model.init_weights()
    state, expected = model.state_dict(), timm_vit(TINY).state_dict()
    added = set(state) - set(expected)
    assert added == {f'blocks.{i}.attn.rel_pos_{axis}' for i in range(3) for axis in 'hw'}
    assert all(torch.equal(state[name], expected[name]) for name in expected)
    assert not any(state[name].any() for name in added)
    assert '6 relative positions are not in the file' in logged[0]
    # a window has 2 * 2 - 1 distances, the grid of 4 x 4 has 2 * 4 - 1
    assert [len(state[f'blocks.{i}.attn.rel_pos_h']) for i in range(3)] == [3, 7, 3]


def test_everything_else_is_strict(tmp_path: Path) -> None:
    state = timm_vit(TINY).state_dict()
    del state['blocks.1.attn.proj.bias']
    file = save(state, tmp_path / 'vit.pth')
    model = PlainViT(TINY, window_size=2, rel_pos=True)
    with pytest.raises(CheckpointMismatch, match=r'blocks\.1\.attn\.proj\.bias'):
        load_checkpoint(model, file)
