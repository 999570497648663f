"""MAE against its released code's procedure, written out image by image."""

import pytest
import torch

from moca.errors import UserError
from tests.pretrain.parts.test_reconstruction import unfolded
from tests.pretrain.tiny import random_views, tiny_method


def loss_by_hand(model, images, order, visible):
    """Mask, encode, put mask tokens where patches are missing, decode in raster order."""
    student, decoder = model.student, model.decoder
    total = 0.0
    for image, places in zip(images, order.tolist(), strict=True):
        seen, hidden = places[:visible], places[visible:]
        patches = student.patch_embed.proj(image[None]).flatten(2).transpose(1, 2)
        x = torch.cat([student.cls_token, (patches + student.pos_embed[:, 1:])[:, seen]], 1)
        for block in student.blocks:
            x = block(x)
        x = decoder.embed(student.norm(x))
        whole = decoder.mask_token.repeat(1, len(places), 1)
        whole[:, seen] = x[:, 1:]
        x = torch.cat([x[:, :1], whole], 1) + decoder.pos_embed
        for block in decoder.blocks:
            x = block(x)
        prediction = decoder.head(decoder.norm(x))[0, 1:]
        target = unfolded(image[None], student.patch_size)[0]
        mean, variance = target.mean(-1, keepdim=True), target.var(-1, keepdim=True)
        target = (target - mean) / (variance + 1e-6) ** 0.5
        total += (prediction - target).square().mean(-1)[hidden].mean() / len(images)
    return total


def test_loss_and_gradients_equal_the_procedure_written_out():
    model = tiny_method('MAEPretrain')
    images = random_views(model)['view1']
    model.step = 5
    mask = model.random_mask(images, model.visible)
    assert sorted(mask.order[0].tolist()) == list(range(36))
    assert mask.visible == 9
    expected = loss_by_hand(model, images, mask.order, 9)
    loss = model(images, mode='loss')['loss']
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=0)
    gradients = torch.autograd.grad(loss, model.student.patch_embed.proj.weight)
    theirs = torch.autograd.grad(expected, model.student.patch_embed.proj.weight)
    torch.testing.assert_close(gradients, theirs, rtol=1e-4, atol=1e-7)


def test_pixels_may_stay_as_they_are():
    model = tiny_method('MAEPretrain', norm_pix=False)
    images = random_views(model)['view1']
    target = model(images, mode='tensor')['target']
    order = model.random_mask(images, model.visible).order
    expected = torch.stack(
        [patches[hidden] for patches, hidden in zip(unfolded(images, 8), order[:, 9:], strict=True)]
    )
    assert torch.equal(target, expected)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(mask_ratio=0.99), r'model\.mask_ratio=0\.99 leaves none of 36'),
        (dict(mask_ratio=0.0), r'model\.mask_ratio=0\.0 hides none'),
        (dict(decoder=dict(dpth=1)), r"model\.decoder .*'dpth'.*'depth'"),
        (dict(decoder=dict(dim=20, num_heads=3)), r'model\.decoder: dim=20'),
    ],
)
def test_impossible_settings_are_errors(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_method('MAEPretrain', **changes)


def test_padded_views_are_refused():
    model = tiny_method('MAEPretrain', img_size=44)  # built for 6 patches all the same
    with pytest.raises(UserError, match='no whole patches of 8'):
        model.check_batch(4, 44)
