"""Views whose colors are changed on the device are those that the workers would have made."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseDataPreprocessor
from torch.utils.data import default_collate

from moca.engine.epoch_order import Draw
from moca.errors import UserError
from moca.images.transforms import blur_kernel
from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.on_device import leave_colors_to_gpu, send_bytes
from moca.pretrain.data.views import AugmentedViews, CropBox, ViewParams
from tests.images.photographs import save_photographs
from tests.pretrain.tiny import tiny_method

RECIPES = [dict(blur_p=1.0), dict(blur_p=0.3, solarize_p=0.4)]
VIEWS = dict(type='AugmentedViews', size=48, views=RECIPES)
DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, 16)
    return folder


@pytest.mark.parametrize('device', DEVICES)
def test_batches_are_those_of_the_workers(folder: Path, device: str) -> None:
    draws = [Draw(image, epoch, seed=2) for epoch in (0, 1) for image in range(16)]
    plain = UnlabeledImages(folder, VIEWS)
    ours = UnlabeledImages(folder, dict(VIEWS, colors_on_device=True))
    # to look at, views are whole
    assert torch.equal(ours[draws[0]]['view1'], plain[draws[0]]['view1'])
    method = tiny_method('MOCAPretrain').to(device)
    send_bytes(method, ours.views)
    expected, sent = (default_collate([data[draw] for draw in draws]) for data in (plain, ours))
    assert sent['view1'].dtype is torch.uint8
    with torch.autocast(device, torch.bfloat16):  # as in a step
        prepared = method.data_preprocessor(sent, True)
    assert prepared.keys() == expected.keys()
    assert torch.equal(prepared['index'], expected['index'])
    std = torch.tensor(plain.views.std)[:, None, None]
    for name in ('view1', 'view2'):
        levels = (prepared[name].cpu() - expected[name]) * std * 255
        # a level of rounding here and there, which solarizing and hue may enlarge
        assert levels.abs().mean((1, 2, 3)).max() < 1
        assert levels.abs().mean() < 0.2
        change = (sent[name] / 255 - torch.tensor(plain.views.mean)[:, None, None]) / std
        assert ((change - expected[name]) * std * 255).abs().mean() > 10  # colors are all there


def test_a_resumed_run_draws_the_same(folder: Path) -> None:
    datasets = [UnlabeledImages(folder, dict(VIEWS, colors_on_device=True)) for _ in range(2)]
    for data in datasets:
        data.views.as_bytes = True
    for name in ('view1', 'view2', 'colors1', 'colors2'):
        first = datasets[0][Draw(3, epoch=5, seed=1)][name]
        assert torch.equal(first, datasets[1][Draw(3, epoch=5, seed=1)][name])
        assert not torch.equal(first, datasets[1][Draw(3, epoch=6, seed=1)][name])


def test_what_was_drawn_travels_whole() -> None:
    (recipe,) = AugmentedViews([dict(solarize_threshold=100)]).recipes
    box = CropBox(0, 0, 1, 1)
    jitter = ((3, -0.05), (0, 1.25), (2, 0.75))
    row = recipe.colors(ViewParams(box, jitter, True, 0.5, True, False)).tolist()
    assert row[:8] == pytest.approx([3, -0.05, 0, 1.25, 2, 0.75, -1, 0])
    assert row[8:10] == [1, 100]
    kernel = blur_kernel(0.5)
    assert row[10:] == pytest.approx([*kernel[len(kernel) // 2 :], *[0] * 7][:7])
    row = recipe.colors(ViewParams(box, (), False, None, False, True)).tolist()
    assert row == [-1, 0] * 4 + [0, 256, 1] + [0] * 6


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    class Own(BaseDataPreprocessor):
        """A method's own."""

    method = tiny_method('MAEPretrain')
    method.data_preprocessor = Own()
    with pytest.raises(UserError, match='MAEPretrain prepares its batches itself'):
        send_bytes(method, AugmentedViews([{}], colors_on_device=True))

    cfg = Config(dict(train_dataloader=dict(dataset=dict(views=dict(VIEWS)))))
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: False)
    with pytest.raises(UserError, match='there is no GPU'):
        leave_colors_to_gpu(cfg)
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: True)
    leave_colors_to_gpu(cfg)
    assert cfg.train_dataloader.dataset.views.colors_on_device
    with pytest.raises(UserError, match='is no AugmentedViews'):
        leave_colors_to_gpu(Config(dict(train_dataloader=dict(dataset=dict()))))
