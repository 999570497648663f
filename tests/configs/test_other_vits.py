"""The backbone of every downstream config as a rotary ViT, and as one without class token.

That their models take a step is tested with the configs.
"""

from __future__ import annotations

from typing import Any

import torch
from mmengine.registry import MODELS

from moca.engine.cli import read_config
from moca.transfer.overrides import set_arch
from tests.configs.helpers import OTHER_VITS, REPOSITORY, divide

CONFIGS = REPOSITORY / 'configs'

TASKS = ('segmentation', 'detection', 'depth', 'imagenet', 'dense')


def test_every_backbone() -> None:
    """Each once, whatever the number of configs that have it."""
    found = {}
    for path in sorted(path for task in TASKS for path in (CONFIGS / task).rglob('*.py')):
        cfg = read_config(path)
        divide(cfg.model, 8)
        found[str(cfg.model.backbone)] = (path.name, cfg)
    assert len(found) > 12
    for name, cfg in found.values():
        for kind in ('rotary', 'no class token'):
            set_arch(cfg, dict(OTHER_VITS[kind]))
            check_backbone(dict(cfg.model.backbone), f'{name}, {kind}')


def check_backbone(backbone: dict[str, Any], case: str) -> None:
    """Check maps, gradients, what is frozen, and the depth of each layer."""
    model: Any = MODELS.build(backbone)
    model.init_weights()
    maps = model(torch.randn(1, 3, 32, 48))
    assert len(maps) == len(backbone.get('out_indices', (-1,))), case
    assert {tuple(each.shape) for each in maps} == {(1, 32, 2, 3)}, case
    trained = {name for name, value in model.named_parameters() if value.requires_grad}
    assert bool(trained) != bool(backbone.get('frozen')), case
    if not trained:
        return
    sum(each.sum() for each in maps).backward()
    reached = {name for name, value in model.named_parameters() if value.grad is not None}
    assert reached == trained, case  # DDP waits for every one
    for name in trained:
        depth, deepest = model.get_layer_depth(f'backbone.{name}', 'backbone.')
        first, number = (*name.split('.'), '')[:2]
        expected = {'blocks': int(number) + 1 if number.isdigit() else 0, 'norm': deepest - 1}
        assert depth == expected.get(first, 0), (case, name)
