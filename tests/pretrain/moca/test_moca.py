"""One step of MOCA: what the recorded run does not show."""

import copy

import pytest
import torch
import torch.nn.functional as F
from mmengine.optim import OptimWrapper

from moca.errors import UserError
from moca.pretrain.parts.ema import ema_update
from tests.pretrain.tiny import tiny_moca


def views(batch=4, size=48, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(batch, 3, size, size, generator=generator) for _ in range(2)]


def step(model):
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3)
    return model.train_step(
        dict(zip(('view1', 'view2'), views(), strict=True)), OptimWrapper(optimizer)
    )


def test_every_trainable_parameter_receives_a_gradient():
    model = tiny_moca()
    losses = model(*views(), mode='loss')
    losses['loss'].backward()
    without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
    assert without == []
    zero = [n for n, p in model.named_parameters() if p.requires_grad and not p.grad.any()]
    assert zero == []
    assert all(not p.requires_grad for p in model.teacher.parameters())


def test_losses_equal_torch_on_full_tensors():
    model = tiny_moca()
    images = views()
    draws = model.draw(4, images[0].device)
    full = model(*images, draws=draws, mode='tensor')
    expected_image = expected_dense = 0.0
    for number, mask in enumerate(draws.rounds):
        expected_image += F.kl_div(
            full[f'image_logits{number}'].log_softmax(-1),
            full['image_target'],
            reduction='batchmean',
        )
        for row in range(8):
            codes = full['codes'][row, mask.order[row, : mask.decoded]]
            log_p = full[f'dense_logits{number}'][row].log_softmax(-1)
            expected_dense += F.kl_div(log_p, codes, reduction='batchmean') / 8
    losses = model(*images, draws=draws, mode='loss')
    torch.testing.assert_close(losses['kl_image'], expected_image, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(losses['kl_dense'], expected_dense, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        losses['loss'], 0.5 * expected_image + 0.5 * expected_dense, rtol=1e-5, atol=1e-6
    )


def test_image_target_comes_from_the_other_view():
    model = tiny_moca()
    first, second = views()
    full = model(first, second, mode='tensor')
    central = [r * 6 + c for r in range(1, 5) for c in range(1, 5)]
    bags = full['codes'][:, central].mean(1)
    torch.testing.assert_close(full['image_target'], bags.roll(4, 0), rtol=1e-5, atol=1e-7)


def test_teacher_moves_by_its_momentum_before_it_is_used():
    model = tiny_moca()
    for parameter in model.student.parameters():
        parameter.data.add_(0.01)
    before = copy.deepcopy(model.teacher)
    model.momentum = 0.9
    step(model)
    # the student has moved since: 0.9 * teacher + 0.1 * (teacher + 0.01)
    for old, new in zip(before.parameters(), model.teacher.parameters(), strict=True):
        torch.testing.assert_close(new, old + 0.001, rtol=0, atol=1e-6)


def test_ema_against_the_formula_in_double():
    teacher, student = torch.randn(5, 7), torch.randn(5, 7)
    expected = 0.99 * teacher.double() + 0.01 * student.double()
    ema_update([teacher], [student], 0.99)
    torch.testing.assert_close(teacher.double(), expected, rtol=0, atol=1e-6)


def test_draws_depend_on_seed_and_step_alone():
    model, device = tiny_moca(), torch.device('cpu')
    model.step = 7
    first = model.draw(6, device)
    torch.rand(100)
    again = model.draw(6, device)
    assert torch.equal(first.rounds[0].order, again.rounds[0].order)
    assert torch.equal(first.word_tokens, again.word_tokens)
    model.step = 8
    assert not torch.equal(first.rounds[0].order, model.draw(6, device).rounds[0].order)


def test_words_come_from_distinct_images_and_both_views():
    model, device = tiny_moca(), torch.device('cpu')
    seen = set()
    for model.step in range(40):
        draws = model.draw(4, device)
        assert sorted(draws.word_images.tolist()) == [0, 1, 2, 3]
        assert set(draws.word_tokens.tolist()) <= set(model.central.tolist())
        seen.add(draws.word_view)
    assert seen == {0, 1}


def test_bf16_step_is_near_the_fp32_one():
    model = tiny_moca()
    images = views()
    draws = model.draw(4, images[0].device)
    other = copy.deepcopy(model)
    exact = model(*images, draws=draws, mode='loss')['loss']
    with torch.autocast('cpu', torch.bfloat16):
        half = other(*images, draws=draws, mode='loss')['loss']
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, exact, rtol=2e-2, atol=0)


def test_fewer_images_than_words_is_an_error():
    with pytest.raises(UserError, match='words_per_step=4 needs as many distinct images'):
        tiny_moca()(*views(batch=3), mode='loss')


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(num_words=66), 'num_words=66 is no multiple'),
        (dict(early_layer=4), 'early_layer=4'),
        (dict(img_size=32, skip_offset=2), 'skip_offset=2 leaves no central token'),
        (dict(mask_ratio=(0.99, 0.75)), 'mask_ratio: round 1'),
        (dict(mask_ratio=(0.55,)), r"model\.mask_ratio=\(0\.55,\): give two, for MOCA's"),
        (dict(mask_ratio=0.55), r'model\.mask_ratio=0\.55: give two'),
        (dict(mask_ratio=(float('nan'), 0.75)), r'model\.mask_ratio=nan: give a number'),
        (dict(decoder_mask_ratio=(-0.3, 0.55)), r'decoder_mask_ratio=-0\.3: give a share'),
        (dict(skip_offset=-1), 'skip_offset=-1'),
        (dict(num_words=0), 'num_words=0'),
        (dict(words_per_step=0), 'words_per_step=0'),
        (dict(normalizer_decay=1.0), 'normalizer_decay=1.0'),
        (dict(inv_delta=0.0), 'inv_delta=0.0'),
        (dict(kappa=None), r'model\.kappa=None: give a number'),
        (dict(image_weight=-1.0), r'model\.image_weight=-1\.0: give a number from 0'),
    ],
)
def test_impossible_settings_are_errors(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_moca(**changes)
