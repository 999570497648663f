"""Schedules and parameter groups against the published numbers."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config

from moca.errors import UserError
from moca.pretrain.training.optim import parameter_groups
from moca.pretrain.training.schedule import PretrainSchedule, cosine_between, warmup_cosine
from tests.pretrain.tiny import tiny_moca

# 625 steps an epoch, 200 epochs, batch 2048
PEAK, WARMUP, END, LAST = 1.2e-3, 30 * 625, 250 * 625, 200 * 625


def test_learning_rate_of_the_paper():
    assert warmup_cosine(0, PEAK, WARMUP, END) == 0
    assert warmup_cosine(WARMUP / 2, PEAK, WARMUP, END) == pytest.approx(6e-4)
    assert warmup_cosine(WARMUP, PEAK, WARMUP, END) == pytest.approx(PEAK)
    # where the released run stops, at epoch 200
    assert warmup_cosine(LAST, PEAK, WARMUP, END) == pytest.approx(1.47e-4, rel=5e-3)
    assert warmup_cosine(END, PEAK, WARMUP, END) == pytest.approx(0, abs=1e-12)


def test_warmup_cosine_equals_torch():
    parameter = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=PEAK)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=80)
    for step in range(80):
        assert warmup_cosine(step + 20, PEAK, 20, 100) == pytest.approx(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()


def test_the_cosine_ends_with_a_whole_epoch_as_in_the_released_code():
    loop = SimpleNamespace(max_epochs=3, max_iters=30)
    loader = SimpleNamespace(batch_size=4, sampler=SimpleNamespace(seed=0), dataset=[])
    runner = SimpleNamespace(
        cfg=Config(dict(optim_wrapper=dict(optimizer=dict(weight_decay=0.1)))),
        **dict(train_loop=loop, train_dataloader=loader, model=torch.nn.Identity()),
        logger=logging.getLogger(__name__),
    )
    schedule = PretrainSchedule(warmup_epochs=1, stretch=1.25)  # 3.75 epochs
    schedule.before_train(runner)
    assert schedule.end == 30
    runner.model.teacher = torch.nn.Identity()
    schedule.before_train(runner)
    with pytest.raises(UserError, match='momentum=None, but Identity has a teacher'):
        PretrainSchedule(warmup_epochs=1, momentum=None).before_train(runner)


def test_momentum_and_weight_decay_of_v1():
    assert cosine_between(0, 0.994, 1.0, LAST) == pytest.approx(0.994)
    assert cosine_between(LAST / 2, 0.994, 1.0, LAST) == pytest.approx(0.997)
    assert cosine_between(LAST, 0.994, 1.0, LAST) == pytest.approx(1.0)
    assert cosine_between(LAST, 0.05, 0.20, LAST) == pytest.approx(0.20)


@pytest.mark.parametrize(
    'wrong',
    [
        *(dict(momentum=value) for value in (1.5, -0.1, 'x')),
        *(dict(stretch=value) for value in (0.5, None)),
        *(dict(base_lr=value) for value in (0.0, 'abc', float('nan'))),
        dict(warmup_epochs=-1),
        dict(final_weight_decay=-0.1),
    ],
    ids=str,
)
def test_impossible_schedules_are_errors(wrong):
    with pytest.raises(UserError, match=next(iter(wrong))):
        PretrainSchedule(**wrong)


def test_parameter_groups_follow_the_released_rule():
    model = tiny_moca()
    groups = parameter_groups(model, 0.05, dict(image_prototypes=1e-4, dense_prototypes=1e-4))
    group_of = {id(p): group for group in groups for p in group['params']}
    assert sum(len(group['params']) for group in groups) == len(group_of)
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            assert id(parameter) not in group_of, name
            continue
        group = group_of[id(parameter)]
        plain = len(parameter.shape) <= 1 or name.endswith('.bias')
        assert group['weight_decay'] == (0.0 if plain else 0.05), name
        assert group['constant'] == ('prototypes' in name), name
        assert group.get('lr') == (1e-4 if 'prototypes' in name else None), name
    assert group_of[id(model.student.cls_token)]['weight_decay'] == 0.05
    assert group_of[id(model.decoder.mask_token)]['weight_decay'] == 0.05
    assert id(model.student.pos_embed) not in group_of


def test_unknown_name_fragment_is_an_error():
    with pytest.raises(UserError, match='prototype_generator'):
        parameter_groups(tiny_moca(), 0.05, dict(prototype_generator=1e-4))
