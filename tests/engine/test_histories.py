"""Histories of the log: what is logged stays the same, and they stay short."""

from __future__ import annotations

import pickle
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor

from moca.engine.histories import cap_histories

CUSTOM = [
    dict(data_src='kl', method_name='mean', window_size=7),
    dict(data_src='kl', log_name='highest', method_name='max', window_size=11),
    dict(data_src='kl', log_name='newest', method_name='current'),
    dict(data_src='ever', method_name='max'),
    dict(data_src='all', method_name='mean', window_size='global'),
    dict(data_src='epoch', method_name='mean', window_size='epoch'),
]
BATCHES = 13


def lines(mode: str, capped: bool) -> tuple[list[dict[str, Any]], MessageHub]:
    """What is logged every five steps of 60, in epochs of 13."""
    hub = MessageHub(f'{mode}{capped}')
    runner = SimpleNamespace(
        message_hub=hub, log_processor=LogProcessor(4, by_epoch=True, custom_cfg=CUSTOM), iter=0
    )
    random = np.random.default_rng(0)
    logged = []
    for step in range(60):
        runner.iter = step
        for name in ('loss', 'kl', 'ever', 'all', 'epoch', 'lr', 'time'):
            hub.update_scalar(f'{mode}/{name}', float(random.normal()), count=step % 3 + 1)
        if capped and step % 3 == 2:
            cap_histories(runner, mode, BATCHES)
        if step % 5 == 4:
            # as after an epoch of validation, whose times are averaged over all of it and one more
            epoch = [dict(data_src='time', method_name='mean', window_size='epoch')]
            custom = CUSTOM + (epoch if mode == 'val' else [])
            parsed = runner.log_processor._parse_windows_size(runner, step % BATCHES, custom)
            logged.append(runner.log_processor._collect_scalars(parsed, runner, mode))
    return logged, hub


@pytest.mark.parametrize('mode', ['train', 'val'])
def test_what_is_logged_stays_the_same(mode: str) -> None:
    expected, long = lines(mode, capped=False)
    ours, short = lines(mode, capped=True)
    assert ours == expected
    assert len(expected) == 12
    assert {len(history.data[0]) for history in long.log_scalars.values()} == {60}
    kept = {key.split('/')[1]: len(history.data[0]) for key, history in short.log_scalars.items()}
    others = 4 if mode == 'train' else 14
    assert kept == dict(
        loss=others, lr=others, time=others, kl=max(11, others), epoch=14, ever=60, all=60
    )


def test_other_modes_and_runs_that_were_resumed() -> None:
    hub = MessageHub('resumed')
    for key in ('train/loss', 'val/time'):
        hub.update_scalar(key, 0.0)  # so that checkpoints have it
    hub.log_scalars['train/loss'] = HistoryBuffer(range(125_000), [1] * 125_000)
    hub.log_scalars['val/time'] = HistoryBuffer(range(50), [1] * 50)
    long = len(pickle.dumps(hub.state_dict()))
    cap_histories(
        SimpleNamespace(message_hub=hub, log_processor=LogProcessor(50)), 'train', BATCHES
    )
    again = pickle.loads(pickle.dumps(hub.state_dict()))['log_scalars']['train/loss']
    assert again.data[0].tolist() == list(range(124_950, 125_000))
    assert len(hub.get_scalar('val/time').data[0]) == 50
    assert len(pickle.dumps(hub.state_dict())) < long / 100
    again.update(1.0)
    assert len(again.data[0]) == 50
