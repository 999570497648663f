"""What changes when a run goes on is said, and nothing else is."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mmengine.config import Config

from moca.engine.watch import WatchTraining
from moca.engine.work_dir import changed_fields

EARLIER: dict[str, Any] = dict(
    model=dict(size=(2, 3), arch=dict(depth=2, name=None), weights=[0.1, float('inf')]),
    hooks=[dict(type='A', interval=1), dict(type='B')],
    none={},
    work_dir='a',
)


@pytest.mark.parametrize(
    ('change', 'expected'),
    [
        ({}, []),
        (dict(work_dir='b', resume=True, load_from='x', launcher='slurm'), []),
        (dict(lr=0.1), ['lr: absent -> 0.1']),
        (dict(none=None), ['none: {} -> None']),
        ({'model.size': [2, 4]}, ['model.size: [2, 3] -> [2, 4]']),
        ({'model.arch.depth': 3, 'model.arch.x': 1}, ['model.arch.depth: 2 -> 3',
                                                      'model.arch.x: absent -> 1']),
        ({'hooks.1.type': 'C'}, ["hooks.1.type: 'B' -> 'C'"]),
        (dict(hooks=[dict(type='A', interval=1)]), ["hooks.1.type: 'B' -> absent"]),
        (dict(note='x' * 70 + 'y'), [f"note: absent -> '{'x' * 19}...{'x' * 35}y'"]),
    ],
)  # fmt: skip
def test_every_difference_has_its_field(change: dict[str, Any], expected: list[str]) -> None:
    now = Config(EARLIER)
    now.merge_from_dict({k: v for k, v in change.items() if k != 'hooks'})
    if 'hooks' in change:
        now.hooks = change['hooks']
    assert changed_fields(EARLIER, now.to_dict()) == expected


def test_a_resumed_run_is_held_against_the_config_in_its_checkpoint(tmp_path: Path) -> None:
    """The runs themselves are in tests/transfer/test_tools.py."""
    config = tmp_path / 'a.py'
    config.write_text('model = dict(size=(2, 3))\ntrain_cfg = dict(max_epochs=1)\n')
    written = dict(meta=dict(cfg=Config.fromfile(str(config)).pretty_text))

    def said(checkpoint: dict[str, Any], resume: bool = True, **changes: Any) -> list[str]:
        cfg, found = Config.fromfile(str(config)), []
        cfg.merge_from_dict(changes)
        logger = SimpleNamespace(warning=found.append)
        runner = SimpleNamespace(cfg=cfg, logger=logger, _resume=resume)
        WatchTraining().after_load_checkpoint(runner, checkpoint)
        return found

    infinite = dict(meta=dict(cfg='train_cfg = dict(max_epochs=1)\nmodel = dict(size=(2, inf))'))
    (message,) = said(infinite)
    assert 'change: model.size: [2, inf] -> [2, 3]. ' in message
    longer = {'train_cfg.max_epochs': 9}
    assert said(written) == []
    assert said(written, resume=False, **longer) == []
    for other in ({}, dict(meta={}), dict(meta=dict(cfg=None)), dict(meta=None)):
        assert said(other, **longer) == []
    (message,) = said(written, **longer)
    assert 'which now change: train_cfg.max_epochs: 1 -> 9. ' in message
    (message,) = said(written, **{f'new.field{number}': 0 for number in range(8)})
    assert 'new.field5: absent -> 0 and 2 more. ' in message
