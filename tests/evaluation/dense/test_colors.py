"""Pixels in the place of features."""

from __future__ import annotations

from argparse import Namespace

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS

from moca.errors import UserError
from moca.evaluation.dense.colors import PatchColors
from moca.evaluation.dense.keys import keys_and_features, which_keys
from moca.evaluation.features import patch_map
from moca.records.run_json import changes_of_protocol
from moca.transfer.run import prepare_checkpoint

ARCH = 'vit_tiny_patch16'


def test_a_cell_holds_the_pixels_of_its_patch() -> None:
    model = MODELS.build(dict(type='PatchColors', arch=ARCH, img_size=32, frozen=True))
    model.init_weights()
    images = torch.rand(2, 3, 40, 32)
    for norm in (True, False):
        maps = patch_map(model, images, norm)
        assert maps.shape == (2, model.embed_dims, 3, 2) == (2, 768, 3, 2)
        assert torch.equal(maps[1, :, 1, 0], images[1, :, 16:32, :16].flatten())
    for found, features in zip(keys_and_features(model, images), (maps, maps), strict=True):
        assert torch.equal(found, features)  # LOST takes them for both
    assert not patch_map(model, images)[0, :, 2, 0].view(3, 16, 16)[:, 8:].any()  # padded
    assert which_keys(model) == 'pixels'


def test_a_run_is_named_after_them() -> None:
    backbone = dict(type='PatchColors', arch=ARCH)
    args = Namespace(checkpoint=None, branch=None, name=None)
    record = prepare_checkpoint(Config(dict(model=dict(backbone=backbone))), args)
    assert record == dict(name='colors', path=None, branch=None)
    assert changes_of_protocol({'model.backbone.type': 'PatchColors'}, {}) == ''
    with pytest.raises(UserError, match='leave out --checkpoint'):
        PatchColors(init_cfg=dict(type='ViTCheckpoint', checkpoint='x.pth'))
