"""The terminal gets what a reader needs, and the log file gets all."""

from __future__ import annotations

import argparse
import re
import warnings
from pathlib import Path
from typing import Any

import pytest
from mmengine.logging import MMLogger, print_log

from moca.engine.terminal import quiet_terminal, quietly, shortened
from tests.engine.test_interrupts import build

LINE = (
    'Iter(train) [ 50/300]  base_lr: 1e-2  lr: 3.5330e-04  eta: 0:00:01  time: 0.1406  '
    'data_time: 0.0247  memory: 312  loss: 0.6840  decode.loss_ce: 0.6840  '
    'images_per_second: 14.2304  waiting_for_data: 0.1383'
)


def test_progress_keeps_what_a_reader_needs() -> None:
    assert shortened(LINE) == (
        'Iter(train) [ 50/300]  eta: 0:00:01  loss: 0.6840  images_per_second: 14.2304'
    )
    assert shortened('Epoch(train)  [2][10/20]  lr: 1  eta: 0:01:00  loss: nan') == (
        'Epoch(train)  [2][10/20]  eta: 0:01:00  loss: nan'
    )
    metrics = 'Iter(val) [3/3]    mIoU: 51.2800  IoU/crack: 3.1  data_time: 0.0021  time: 0.12'
    assert shortened(metrics) == 'Iter(val) [3/3]  mIoU: 51.2800  IoU/crack: 3.1'
    assert shortened('Saved: it') == 'Saved: it'


def trained(folder: Path, **how: Any) -> tuple[Path, MMLogger]:
    with quiet_terminal(**how):
        runner = build(folder)
        runner.train()
        print_log('of ours', runner.logger)
        print_log('\n'.join('many lines' for _ in range(40)), runner.logger)
        print_log('"FileClient" will be deprecated', runner.logger, 30)
        runner.param_schedulers = None
        runner.resume(runner.message_hub.runtime_info['last_ckpt'])
        print_log('look at this', runner.logger, 30)
        warnings.warn('a library would rather', stacklevel=1)
    return Path(runner.logger.log_file), runner.logger


def test_a_run_prints_its_progress_and_logs_all(tmp_path: Path, capsys: Any) -> None:
    # tests are no module of the suite, but their functions log for it here
    globals()['__name__'], name = 'moca.engine.tested', __name__
    try:
        log, logger = trained(tmp_path / 'run')
        lines = capsys.readouterr().out.splitlines()
        print_log('as mmengine does', logger)
    finally:
        globals()['__name__'] = name
    assert [re.sub(r'^[\d:]{8} ', '', line) for line in lines[1:]] == [
        'of ours',
        'WARNING: look at this',
    ]
    progress = r'[\d:]{8} Epoch\(train\) .*  eta: [\d:]+  loss: [\d.]+  images_per_second: [\d.]+$'
    assert re.match(progress, lines[0])
    written = log.read_text()
    of_file = ('System environment', 'Hooks will be', 'many lines', 'FileClient', 'would rather')
    for text in (*of_file, 'Loads checkpoint by', '`resume_param_scheduler` is', 'resumed epoch'):
        assert text in written
    # the filter is gone with the tool
    assert re.search(r'mmengine.*INFO.*as mmengine does', capsys.readouterr().out)


def test_other_tools_print_what_is_ours_without_the_time(capsys: Any) -> None:
    def act(args: argparse.Namespace) -> None:
        warnings.warn('a library would rather', stacklevel=1)
        print_log('of a library', 'current')
        source = "print_log('of ours', 'current'); print_log('look at this', 'current', 30)"
        exec(source, dict(print_log=print_log, __name__='moca.engine.tested'))

    quietly(act)(argparse.Namespace(verbose=False))
    said = capsys.readouterr()
    assert (said.out, said.err) == ('of ours\nWARNING: look at this\n', '')
    with pytest.warns(UserWarning, match='rather'):
        quietly(act)(argparse.Namespace(verbose=True))
    assert 'of a library' in capsys.readouterr().out


def test_verbose_prints_all_and_other_processes_nothing(tmp_path: Path, capsys: Any) -> None:
    with pytest.warns(UserWarning, match='rather'):
        trained(tmp_path / 'all', verbose=True)
    assert 'System environment' in capsys.readouterr().out
    _, logger = trained(tmp_path / 'other', rank=1)
    assert not capsys.readouterr().out
    with quiet_terminal(rank=1):
        logger.error('broken')
    assert 'broken' in capsys.readouterr().out
