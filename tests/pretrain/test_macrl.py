"""MACRL: what the losses of others that it is made of do not show."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F

from moca.errors import UserError
from tests.pretrain.parts.test_reconstruction import unfolded
from tests.pretrain.tiny import random_views, tiny_method


def test_views_are_masked_by_their_own_ratios():
    model = tiny_method('MACRLPretrain')
    strong, weak = model.draw(*random_views(model).values())
    assert (strong.visible, weak.visible) == (9, 18)
    assert not torch.equal(strong.order, weak.order)


def test_losses_equal_torch_on_what_the_networks_give():
    model = tiny_method('MACRLPretrain')
    strong, weak = random_views(model).values()
    masks = model.draw(strong, weak)
    losses = model(strong, weak, mode='loss')  # momentum 1: the teacher stays
    # the same draws; the bank as it was before it took the keys
    again = tiny_method('MACRLPretrain')
    outputs = again(strong, weak, mode='tensor')
    for number, (name, view) in enumerate((('strong', strong), ('weak', weak)), start=1):
        mask = masks[number - 1]
        target = unfolded(view, 8)
        deviation = (target.var(-1, keepdim=True) + 1e-6).sqrt()
        target = (target - target.mean(-1, keepdim=True)) / deviation
        hidden = torch.stack(
            [row[places[mask.visible :]] for row, places in zip(target, mask.order, strict=True)]
        )
        expected = F.l1_loss(outputs[f'prediction{number}'], hidden)
        torch.testing.assert_close(losses[f'reconstruction_{name}'], expected)
    query, key = F.normalize(outputs['query']), F.normalize(outputs['key'])
    logits = torch.cat([(query * key).sum(1, keepdim=True), query @ again.bank.keys.T], 1) / 0.2
    expected = 2 * 0.2 * F.cross_entropy(logits, torch.zeros(4, dtype=torch.long))
    torch.testing.assert_close(losses['contrastive'], expected)
    total = 0.5 * (losses['reconstruction_strong'] + losses['reconstruction_weak']) + expected
    torch.testing.assert_close(losses['loss'], total)
    # the keys come in after the loss
    torch.testing.assert_close(model.bank.keys[:4], key)
    assert torch.equal(model.bank.keys[4:], again.bank.keys[4:])


def test_equal_keys_cost_the_logarithm_of_their_number():
    model = tiny_method('MACRLPretrain')
    outputs = model(**random_views(model), mode='tensor')
    same = torch.ones(4, 8)
    model.bank.keys.copy_(F.normalize(same[:1]).expand(16, 8))
    losses = model.losses({**outputs, 'query': same, 'key': same})
    assert losses['contrastive'].item() == pytest.approx(2 * 0.2 * math.log(17), rel=1e-5)


def test_the_key_is_the_teachers_weak_view_and_gets_no_gradient():
    model = tiny_method('MACRLPretrain')
    views = random_views(model)
    mask = model.draw(*views.values())[1]
    for parameter in model.student.parameters():
        parameter.data.mul_(1.5)  # so that it is not the teacher
    outputs = model(**views, mode='tensor')
    tokens = model.teacher.tokens(views['view2'], mask.ids_visible)
    expected = model.teacher_projector(tokens.patches.mean(1))
    torch.testing.assert_close(outputs['key'], expected)
    assert not outputs['key'].requires_grad
    assert outputs['query'].requires_grad


def test_teacher_and_its_projector_move_before_they_are_used():
    model = tiny_method('MACRLPretrain')
    model.momentum = 0.9
    before = copy.deepcopy(model)
    for module in (model.student, model.projector):
        for parameter in module.parameters():
            parameter.data.add_(0.01)
    model(**random_views(model), mode='loss')
    for name in ('teacher', 'teacher_projector'):
        old, new = getattr(before, name), getattr(model, name)
        for past, now in zip(old.parameters(), new.parameters(), strict=True):
            torch.testing.assert_close(now, past + 0.001, rtol=0, atol=1e-6)


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(mask_ratio=(0.75,)), r'model\.mask_ratio=\(0\.75,\): give two, for the strong'),
        (dict(mask_ratio=0.75), r'model\.mask_ratio=0\.75: give two, for the strong'),
        (dict(mask_ratio=(0.99, 0.5)), r'model\.mask_ratio=0\.99 leaves none'),
        (dict(mask_ratio=(0.75, 0.0)), r'model\.mask_ratio=0\.0 hides none'),
        (dict(mask_ratio=(0.75, 'a')), r"model\.mask_ratio='a': give a number"),
        (dict(temperature=-1.0), r'model\.temperature=-1'),
        (dict(temperature=None), r'model\.temperature=None'),
        (dict(bank_size=0), r'model\.bank_size=0'),
        (dict(contrastive_weight=float('inf')), r'model\.contrastive_weight=inf'),
        (dict(projector=dict(out=3)), r"model\.projector .*'out'"),
    ],
)
def test_impossible_settings_are_errors(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_method('MACRLPretrain', **changes)


def test_impossible_batches_are_errors():
    model = tiny_method('MACRLPretrain')
    with pytest.raises(UserError, match=r'model\.bank_size=16 is no multiple of the 6'):
        model.check_batch(6, 48)
    with pytest.raises(UserError, match='batch_size: a contrastive loss'):
        model.check_batch(1, 48)
    model.num_images = 32
    model.check_batch(8, 48)
    for images, remedy in ((31, r'Give model\.bank_size=8\.'), (15, 'Give more images, or')):
        model.num_images = images
        with pytest.raises(UserError, match=rf'bank_size=16 for {images} images.*{remedy}'):
            model.check_batch(8, 48)
    model.part = (0, 2)
    with pytest.raises(UserError, match='accumulative_counts=2'):
        model.check_batch(8, 48)
