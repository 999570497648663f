"""Files of every family that has no library here: read, named, normalized and computed alike."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from moca.backbone import PlainViT
from moca.checkpoints import inspect_checkpoint, load_checkpoint
from tests.backbone.helpers import save
from tests.checkpoints.published import PUBLISHED
from tests.checkpoints.test_original_libraries import SIZES, close, images


@torch.no_grad()
@pytest.mark.parametrize('family', PUBLISHED)
def test_features_at_three_sizes(family: str, tmp_path: Path) -> None:
    file = PUBLISHED[family]()
    # configs beside a file are read of files with a library's name alone
    name = 'open_clip_model.pth' if file.config else 'a.pth'
    path = save(file.nest(file.state), tmp_path / name)
    if file.config:
        (tmp_path / 'config.json').write_text(json.dumps(file.config))
    info = inspect_checkpoint(path, file.branch)
    assert file.family in info.family
    assert info.refusal is None
    assert info.mean[0] == pytest.approx(file.mean)
    arch: Any = info.arch
    model = PlainViT(arch, img_size=32)
    load_checkpoint(model, path, file.branch)
    assert model.norm_eps == file.eps
    model.eval()
    for size in SIZES:  # that of its positions, a larger one, and one that is not square
        tokens = model.tokens(images(size))
        close(torch.cat([tokens.prefix, tokens.patches], dim=1), file.tokens(images(size)))
