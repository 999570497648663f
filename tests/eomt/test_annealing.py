"""Probabilities of masks by step and block, against the released tables."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.registry import HOOKS
from torch import nn

from moca.engine.cli import read_config
from moca.eomt.annealing import MaskAnnealing, mask_prob, phases
from moca.errors import UserError
from moca.transfer.recipe import shorten
from tests.configs.helpers import REPOSITORY
from tests.eomt.tiny import tiny_network

# steps, blocks, first_end -> starts and ends: tue-mps/eomt, configs/*/*/*/*.yaml
RELEASED: list[tuple[int, int, int | None, list[int], list[int]]] = [
    (39_120, 4, None, [6520, 13040, 19560, 26080], [13040, 19560, 26080, 32600]),
    (88_692, 4, None, [14782, 29564, 44346, 59128], [29564, 44346, 59128, 73910]),
    (88_692, 3, None, [14782, 36955, 59128], [29564, 51737, 73910]),
    (
        *(88_692, 5, None),
        [14782, 25868, 36955, 48042, 59128],  # the table says 25869: the half rounded up
        [29564, 40650, 51737, 62824, 73910],
    ),
    (88_692, 4, 3000, [0, 29564, 44346, 59128], [3000, 44346, 59128, 73910]),
    (177_384, 3, 3000, [0, 73910, 118256], [3000, 103474, 147820]),
    (19_560, 4, 3000, [0, 6520, 9780, 13040], [3000, 9780, 13040, 16300]),
]


@pytest.mark.parametrize(('total', 'blocks', 'first_end', 'starts', 'ends'), RELEASED)
def test_the_rule_makes_the_released_tables(
    total: int, blocks: int, first_end: int | None, starts: list[int], ends: list[int]
) -> None:
    assert phases(total, blocks, first_end) == (starts, ends)


# configs with four blocks that see queries, as of ViT-L -> the released starts and ends
OF_CONFIGS = {
    'segmentation/ade20k/eomt.py': ([6520, 13040, 19560, 26080], [13040, 19560, 26080, 32600]),
    'segmentation/ade20k/eomt_dinov3.py': ([0, 6520, 9780, 13040], [3000, 9780, 13040, 16300]),
    'segmentation/cityscapes/eomt.py': ([3317, 6634, 9951, 13268], [6634, 9951, 13268, 16585]),
    'detection/coco/eomt_panoptic.py': (
        *([14782, 29564, 44346, 59128],),
        [29564, 44346, 59128, 73910],
    ),
    'detection/coco/eomt_instance_dinov3.py': (
        *([14782, 29564, 44346, 59128],),
        [29564, 44346, 59128, 73910],
    ),
    'detection/coco/eomt_panoptic_dinov3.py': (
        *([0, 29564, 44346, 59128],),
        [3000, 44346, 59128, 73910],
    ),
}


@pytest.mark.parametrize('config', OF_CONFIGS)
def test_configs_fade_as_released(config: str) -> None:
    cfg = read_config(REPOSITORY / 'configs' / config)
    runner = a_runner(0, cfg.train_cfg.max_iters, blocks=4)
    hook = HOOKS.build(cfg.default_hooks.annealing)
    for number, (start, end) in enumerate(zip(*OF_CONFIGS[config], strict=True)):
        for step, known in ((start, 1.0), ((start + end) // 2, None), (end, 0.0)):
            runner.iter = step
            hook.before_train(runner)
            found = runner.model.network.attn_mask_probs.tolist()[number]
            assert 0.4 < found < 0.7 if known is None else found == known, (number, step)
            if step == start and start:
                runner.iter = start + 1
                hook.before_train(runner)
                assert runner.model.network.attn_mask_probs.tolist()[number] < 1


def test_a_shortened_run_fades_along_its_own_steps() -> None:
    runner, hook = a_runner(30), MaskAnnealing(total=39_120)
    hook.before_train(runner)
    assert runner.model.network.attn_mask_probs.tolist() == pytest.approx([0, 0.5**0.9, 1])
    cfg = read_config(REPOSITORY / 'configs/segmentation/cityscapes/eomt.py')
    shorten(cfg, 0.1)
    assert (cfg.train_cfg.max_iters, cfg.default_hooks.annealing.total) == (1980, 1990)
    assert cfg.param_scheduler[0].warmup == [50, 100]


@pytest.mark.parametrize(
    ('share', 'starts', 'ends', 'first_end'),
    [(0.5, [0, 3, 5], [10, 15, 20], 50), (2, [0, 12, 20], [40, 60, 80], 100)],
)
def test_the_hooks_own_steps_follow_the_length(
    share: float, starts: list[int], ends: list[int], first_end: int
) -> None:
    cfg = read_config(REPOSITORY / 'configs/segmentation/cityscapes/eomt.py')
    cfg.default_hooks.annealing.update(starts=[0, 6, 10], ends=[20, 30, 40], total=None)
    shorten(cfg, share)
    annealing = cfg.default_hooks.annealing
    assert (annealing.starts, annealing.ends, annealing.total) == (starts, ends, None)
    cfg.default_hooks.annealing = dict(type='MaskAnnealing', first_end=100, total=1000)
    shorten(cfg, share)
    annealing = cfg.default_hooks.annealing
    assert (annealing.first_end, annealing.total) == (first_end, round(1000 * share))


@pytest.mark.parametrize(
    ('step', 'expected'),
    [(0, 1.0), (100, 1.0), (101, 0.99**0.9), (150, 0.5**0.9), (199, 0.01**0.9), (200, 0.0)],
)
def test_a_probability_falls_as_a_power(step: int, expected: float) -> None:
    assert mask_prob(step, 100, 200) == pytest.approx(expected)


def a_runner(step: int, total: int = 60, blocks: int = 3) -> Any:
    model = SimpleNamespace(network=tiny_network(blocks=blocks))
    return SimpleNamespace(model=model, iter=step, max_iters=total)


def test_blocks_fade_one_after_the_other_and_resuming_needs_no_state() -> None:
    runner, hook = a_runner(0), MaskAnnealing()
    hook.before_train(runner)
    tables = [runner.model.network.attn_mask_probs.tolist()]
    for runner.iter in range(60):
        hook.after_train_iter(runner, runner.iter)
        tables.append(runner.model.network.attn_mask_probs.tolist())
    # starts 10, 25, 40; ends 20, 35, 50
    for step, wanted in {10: [1, 1, 1], 15: [0.5**0.9, 1, 1], 20: [0, 1, 1], 30: [0, 0.5**0.9, 1],
                         40: [0, 0, 1], 45: [0, 0, 0.5**0.9], 50: [0, 0, 0]}.items():  # fmt: skip
        assert tables[step] == pytest.approx(wanted, abs=1e-6), step
    later = a_runner(30)
    MaskAnnealing().before_train(later)
    assert later.model.network.attn_mask_probs.tolist() == tables[30]


def test_lists_of_steps_have_to_fit() -> None:
    for options, text in (
        (dict(starts=[0]), 'give starts and ends'),
        (dict(starts=[0, 5], ends=[4, 5]), 'each end behind its start'),
        (dict(starts=[0], ends=[4], first_end=2), 'set them to None, or leave out starts'),
    ):
        with pytest.raises(UserError, match=text):
            MaskAnnealing(**options)
    with pytest.raises(UserError, match='has 2 steps for the 3 blocks'):
        MaskAnnealing(starts=[0, 1], ends=[2, 3]).before_train(a_runner(0))
    runner = a_runner(0)
    runner.model = nn.Linear(1, 1)
    with pytest.raises(UserError, match='Linear has no MaskTransformer'):
        MaskAnnealing().before_train(runner)
