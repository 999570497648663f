"""Views that travel as bytes are the numbers that the loader would have made of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from mmengine.model import BaseDataPreprocessor
from torch.utils.data import default_collate

from moca.engine.epoch_order import Draw
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD, normalize
from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.on_device import NormalizeViews, send_bytes
from tests.images.photographs import save_photographs
from tests.pretrain.tiny import tiny_method

VIEWS = dict(type='AugmentedViews', size=48, views=[dict(blur_p=1.0), {}])
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, 4)
    return folder


@pytest.mark.parametrize('device', DEVICES)
def test_every_level_is_normalized_as_in_the_loader(device: str) -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1).repeat(3, axis=2)
    expected = normalize(levels, IMAGENET_MEAN, IMAGENET_STD)
    prepare = NormalizeViews(IMAGENET_MEAN, IMAGENET_STD).to(device)
    view = torch.from_numpy(levels).permute(2, 0, 1)[None]
    made = prepare(dict(view1=view, index=torch.tensor([5])))
    assert made['view1'].dtype is torch.float32
    assert made['view1'].device.type == device
    assert torch.equal(made['view1'][0].cpu(), expected)
    assert made['index'].device.type == 'cpu'  # for hooks, which read it


def test_batches_are_the_same_numbers_and_a_quarter_of_the_bytes(folder: Path) -> None:
    draws = [Draw(image, epoch=1, seed=2) for image in range(4)]
    plain, small = UnlabeledImages(folder, VIEWS), UnlabeledImages(folder, VIEWS)
    method = tiny_method('MOCAPretrain')
    send_bytes(method, small.views)
    expected, sent = (default_collate([data[draw] for draw in draws]) for data in (plain, small))
    for name in ('view1', 'view2'):
        assert sent[name].nbytes * 4 == expected[name].nbytes
    prepared = method.data_preprocessor(sent, True)
    assert prepared.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(prepared[name], value), name


def test_numbers_pass_as_they_are() -> None:
    view = torch.randn(2, 3, 4, 4)
    assert torch.equal(NormalizeViews((0.5,) * 3, (0.5,) * 3)(dict(view1=view))['view1'], view)


def test_checkpoints_have_no_more_in_them_and_other_preparations_stay() -> None:
    class Own(BaseDataPreprocessor):
        """A method's own."""

    views = UnlabeledViews()
    method = tiny_method('MAEPretrain')
    keys = method.state_dict().keys()
    send_bytes(method, views)
    assert views.as_bytes
    assert method.state_dict().keys() == keys

    views, method = UnlabeledViews(), tiny_method('MAEPretrain')
    method.data_preprocessor = Own()
    send_bytes(method, views)
    assert not views.as_bytes
    assert type(method.data_preprocessor) is Own
    send_bytes(method, object())  # of another data set


class UnlabeledViews:
    """What `send_bytes` asks of views."""

    mean, std, as_bytes = IMAGENET_MEAN, IMAGENET_STD, False
