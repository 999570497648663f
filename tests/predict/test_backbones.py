"""A backbone by itself: features of images, with its own normalization."""

from __future__ import annotations

import inspect
import pydoc
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from torchvision.transforms import functional as transforms

import moca
from moca.errors import UserError
from moca.predict.backbones import load_backbone

NAME = 'vit_tiny_patch16_224'


@pytest.fixture(scope='module')
def original() -> torch.nn.Module:
    torch.manual_seed(0)
    return timm.create_model(NAME, img_size=64, num_classes=0, pretrained=False).eval()


@pytest.fixture(scope='module')
def file(original: torch.nn.Module, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp('timm') / 'vit.pth'
    torch.save(original.state_dict(), path)
    return path


def test_features_are_those_of_timm(original: torch.nn.Module, file: Path) -> None:
    vit = moca.backbone(file, 'vit_tiny_patch16')
    image = np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)
    found = vit.features(image)
    tensor = transforms.normalize(transforms.to_tensor(image), vit.mean, vit.std)
    with torch.no_grad():
        tokens = original.forward_features(tensor[None])[0].numpy()
    np.testing.assert_allclose(found.class_token, tokens[0], atol=2e-5)
    np.testing.assert_allclose(found.patches.reshape(16, -1), tokens[1:], atol=2e-5)
    assert found.registers.shape == (0, 192)
    assert np.array_equal(found.image, image)


def test_images_are_cut_to_whole_patches(file: Path) -> None:
    vit = moca.backbone(file, 'vit_tiny_patch16', amp=True)
    gray, wide = np.zeros((40, 50), np.uint8), np.zeros((20, 90, 4), np.uint8)
    found = vit.features([gray, wide])
    assert [each.patches.shape for each in found] == [(2, 3, 192), (1, 6, 192)]
    assert all(each.patches.dtype == np.float32 for each in found)
    assert vit.features(gray, size=64).patches.shape == (4, 5, 192)
    assert vit.features(gray, size=(32, 64)).image.shape == (32, 64, 3)


def test_what_cannot_be_loaded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='random weights of which architecture'):
        moca.backbone('random')
    with pytest.raises(UserError, match='nothing'):
        moca.backbone(tmp_path / 'nothing.pth')


def test_help_is_a_page_that_names_every_argument() -> None:
    text = pydoc.plain(pydoc.render_doc(moca.backbone))
    assert len(text.splitlines()) < 50
    named = set(inspect.signature(load_backbone).parameters) - {'checkpoint', 'changes'}
    assert all(f'{name}=' in text for name in named | {'patch', 'mean', 'std'})
