"""A config's text is formatted once, and is mmengine's."""

from __future__ import annotations

import pytest
from mmengine.config import Config

from moca.engine import config_text
from moca.engine.config_text import plain_text, pretty_text


def test_it_is_what_mmengine_writes_and_is_made_once(monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    make = config_text._make_text
    monkeypatch.setattr(config_text, '_make_text', lambda cfg: made.append(1) or make(cfg))
    monkeypatch.setattr(config_text, '_formatted', {})
    cfg = Config(dict(model=dict(type='A', names=[f'a long name {i}' for i in range(20)]), b=1))
    text = pretty_text(cfg)
    assert text == make(cfg) != plain_text(cfg)
    assert Config.fromstring(plain_text(cfg), '.py').to_dict() == cfg.to_dict()
    made.clear()
    assert pretty_text(cfg) == text
    assert len(made) == 1  # the plain text, which tells whether anything has changed
    cfg.b = 2
    assert 'b = 2' in pretty_text(cfg)


def test_few_are_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(config_text, '_formatted', kept := {})
    for number in range(2 * config_text._KEPT + 1):
        pretty_text(Config(dict(a=number)))
    assert len(kept) <= config_text._KEPT


def test_unformatted_configs_stay_so() -> None:
    cfg = Config(dict(model=dict(type='A', names=list(range(60)))), format_python_code=False)
    assert pretty_text(cfg) == plain_text(cfg)
