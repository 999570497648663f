"""A config's text, read without running it, holds what mmengine finds when it runs it."""

from pathlib import Path

import pytest
from mmengine.config import Config

from moca.records.config_values import read_literals

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    'name',
    [
        'pretrain/moca_v1p0.py',
        'pretrain/moca_tiny-imagenet.py',
        'segmentation/driving/linear-bn.py',
    ],
)
def test_every_field_of_our_configs(name: str) -> None:
    cfg = Config.fromfile(str(REPOSITORY / 'configs' / name))
    assert read_literals(cfg.pretty_text) == cfg.to_dict()


def test_keys_that_are_no_names() -> None:
    text = "a = {'blocks.0': [1, dict(b=-2.5)], 'c': dict({'x y': None, 'd': ()})}"
    assert read_literals(text) == {'a': {'blocks.0': [1, {'b': -2.5}], 'c': {'x y': None, 'd': ()}}}


def test_infinity_as_mmengine_writes_it() -> None:
    cfg = Config(dict(a=dict(b=float('inf'), c=[-float('inf'), 1])))
    assert read_literals(cfg.pretty_text) == cfg.to_dict()


def test_code_is_not_run(tmp_path: Path) -> None:
    victim = tmp_path / 'victim'
    text = (
        f'import pathlib\na = pathlib.Path({str(victim)!r}).touch()\n'
        f'b = [dict(c=pathlib.Path({str(victim)!r}).touch())]\nd = 3\nprint(d)\n'
    )
    assert read_literals(text) == {'d': 3}
    assert not victim.exists()


@pytest.mark.parametrize(
    'text', ['', 'a = (', '\x00', 'a = ' + '(' * 5000, '3', 'a = {**b}', 'a = dict(**{1: 2})']
)
def test_nonsense(text: str) -> None:
    assert read_literals(text) == {}
