"""What changes when a run goes on is said, and nothing else is."""

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moca.engine import resumed
from moca.engine.resumed import changed_fields, warn_of_changes

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


def test_a_resumed_run_is_held_against_the_config_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(resumed, 'print_log', lambda text, *_: said.append(text))
    (tmp_path / 'a.py').write_text('model = dict(size=(2, 3))\ntrain_cfg = dict(max_epochs=1)\n')

    def start(resume: bool = True, **changes: Any) -> list[str]:
        cfg = Config.fromfile(str(tmp_path / 'a.py'))
        cfg.merge_from_dict(changes)
        cfg.resume, cfg.load_from = resume, str(tmp_path / 'run' / 'epoch_1.pth')
        said.clear()
        warn_of_changes(cfg)
        return said

    assert start(**{'train_cfg.max_epochs': 9}) == []  # nothing there
    (tmp_path / 'run').mkdir()
    Config.fromfile(str(tmp_path / 'a.py')).dump(str(tmp_path / 'run' / 'a.py'))
    assert start() == []
    assert start(resume=False, **{'train_cfg.max_epochs': 9}) == []
    (message,) = start(**{'train_cfg.max_epochs': 9})
    assert 'epoch_1.pth was written under other settings' in message
    assert ': train_cfg.max_epochs: 1 -> 9. ' in message
    (message,) = start(**{f'new.field{number}': 0 for number in range(8)})
    assert 'new.field5: absent -> 0 and 2 more. ' in message
