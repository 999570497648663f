"""Patch features that are no numbers are refused wherever images are matched."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from moca.errors import UserError
from moca.evaluation.dense.davis import chosen_preset, video_features
from moca.evaluation.dense.keys import keys_and_features
from moca.evaluation.dense.spair import MapsOfImages
from moca.evaluation.dense.spair_data import read_spair
from moca.evaluation.dense.video_data import read_davis
from tests.evaluation.dense.test_video_protocol import Pieces, half
from tests.evaluation.dense.trees import texture, write_davis, write_spair


class Overflow(Pieces):
    def tokens(self, images: Tensor, *_: Any, **__: Any) -> Any:
        found = super().tokens(images)
        found.patches[:, -1] = float('nan')
        return found


def test_frames_of_videos(tmp_path: Path) -> None:
    root = write_davis(tmp_path, {'still': ([texture(64, 128, 0)] * 5, [half()] * 5)})
    frames = read_davis(root, 'val', 'root')[0].frames
    with pytest.raises(UserError, match=r'00000\.jpg are not all finite'):
        list(video_features(Overflow().eval(), frames, (64, 128), chosen_preset('dino', 64)))


def test_images_of_pairs(tmp_path: Path) -> None:
    data = read_spair(str(write_spair(tmp_path)), 'test', 'root')
    image = next(iter(data.images.values()))
    with pytest.raises(UserError, match=r'\.jpg are not all finite'):
        MapsOfImages(Overflow().eval(), 80).raw(image)


def test_keys_of_attention() -> None:
    model = Pieces().eval()
    with torch.no_grad():
        model.blocks[-1].attn.qkv.bias[8] = float('inf')  # the first of the keys
    with pytest.raises(UserError, match='not all finite'):
        keys_and_features(model, torch.zeros(1, 3, 32, 32))
