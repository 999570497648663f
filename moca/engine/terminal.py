"""What a run prints: what it has and how far it is. All the rest is in its log file alone.

mmengine prints its log as it writes it, several hundred lines before the first loss: environment,
config and hooks. Here its handlers stay, and the one of the terminal is given a filter.
"""

from __future__ import annotations

import argparse
import functools
import logging
import re
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

from mmengine.hooks import Hook
from mmengine.logging import MMLogger
from mmengine.runner.checkpoint import CheckpointLoader

from moca.engine.accumulate import images_per_step

_OURS = ('moca', 'tools', '__main__')
# Whose messages are for those who look into the rates of single layers.
_FOR_THE_FILE = ('moca.engine.layer_decay',)
# The lines of a run's progress, and tables of metrics, by the module that logs them.
_PROGRESS = 'mmengine.hooks.logger_hook'
_METRICS = ('mmseg.evaluation', 'mmdet.evaluation')
# Messages with more lines are for the file; ADE20K's table of classes has 156.
_MOST_LINES = 30
# Seconds between two lines of progress where somebody looks on; ours.
_PAUSE = 10.0
# What libraries warn of among themselves; nothing that a user could change.
_NEEDLESS = re.compile(
    r'"FileClient"|"HardDiskBackend"|The prefix is not set in metric class|'
    r'Dataset \w+ has no metainfo|Please make sure that the mlflow server is running|'
    r'`resume_param_scheduler` is True but `self.param_schedulers` is None'
)

_COUNT = re.compile(
    r'(?:Iter|Epoch)\((?P<mode>\w+)\)\s+(?P<place>(?:\[[^]]*\])+)(?P<fields>.*)', re.S
)
_FIELD = re.compile(r'([\w./%-]+): (\S+)')
_OF_TRAINING = ('eta', 'loss', 'images_per_second')
_OF_TIME = ('time', 'data_time', 'memory')


def _origin() -> str:
    """The module that has asked for the message that is being handled."""
    frame = sys._getframe(2)  # behind the filter
    while frame.f_back is not None:
        name = str(frame.f_globals.get('__name__', ''))
        if not name.startswith(('logging', 'mmengine.logging')):
            return name
        frame = frame.f_back
    return ''


def shortened(text: str) -> str:
    """A line of mmengine's progress without what only the file has to know.

    Example:
        >>> shortened('Iter(train) [ 2/12]  lr: 3e-04  eta: 0:00:01  time: 0.1  loss: 0.68')
        'Iter(train) [ 2/12]  eta: 0:00:01  loss: 0.68'
    """
    found = _COUNT.match(text)
    if found is None:
        return text
    fields = [
        f'{name}: {value}'
        for name, value in _FIELD.findall(found['fields'])
        if (name in _OF_TRAINING if found['mode'] == 'train' else name not in _OF_TIME)
    ]
    return '  '.join([text[: found.end('place')], *fields])


class _Selection(logging.Filter):
    """Lets pass what is for a reader of the terminal."""

    def __init__(self, silent: bool) -> None:
        super().__init__()
        self.silent = silent
        self._printed = 0.0

    def filter(self, record: logging.LogRecord) -> bool:
        if record.levelno >= logging.ERROR:
            return True
        if self.silent:
            return False
        text, origin = record.getMessage(), _origin()
        if hasattr(record, 'file_only'):
            return False
        if record.levelno >= logging.WARNING:
            return _NEEDLESS.match(text) is None
        if origin == _PROGRESS:
            found = _COUNT.match(text)
            return found is not None and self._is_time(found)
        if origin.startswith(_METRICS) or origin.split('.')[0] in _OURS:
            return text.count('\n') < _MOST_LINES and origin not in _FOR_THE_FILE
        return False

    def _is_time(self, line: re.Match[str]) -> bool:
        now = time.monotonic()
        ends = 'eta: ' not in line['fields'] or 'eta: 0:00:00' in line['fields']
        if sys.stdout.isatty() and not ends and now - self._printed < _PAUSE:
            return False
        self._printed = now
        return True


class _Short(logging.Formatter):
    """The time of the day if it is asked for, and the level where it is none of every line."""

    def __init__(self, times: bool) -> None:
        super().__init__()
        self.times = times

    def format(self, record: logging.LogRecord) -> str:
        text = shortened(record.getMessage())
        if text.startswith('\n'):  # a table
            return text[1:]
        level = f'{record.levelname}: ' if record.levelno > logging.INFO else ''
        when = time.strftime('%H:%M:%S ', time.localtime(record.created)) if self.times else ''
        return f'{when}{level}{text}'


@contextmanager
def quiet_terminal(verbose: bool = False, rank: int = 0, times: bool = True) -> Iterator[None]:
    """Have loggers print what a reader needs, from the first process; files get all.

    Python's warnings go to the log file as well.

    Args:
        verbose: Print all, as mmengine does.
        rank: Of this process, by its launcher; only errors of others are printed.
        times: Whether each line begins with the time of the day, as those of a run do.
    """
    if verbose:
        yield
        return
    selection, short = _Selection(silent=rank != 0), _Short(times)
    changed: list[tuple[logging.Handler, logging.Formatter | None]] = []

    def quieten(logger: MMLogger) -> None:
        for handler in logger.handlers:
            if type(handler) is logging.StreamHandler and selection not in handler.filters:
                changed.append((handler, handler.formatter))
                handler.addFilter(selection)
                handler.setFormatter(short)

    made = MMLogger.__init__

    def make(self: MMLogger, *args: Any, **kwargs: Any) -> None:
        made(self, *args, **kwargs)
        quieten(self)

    read = CheckpointLoader.load_checkpoint

    def log_reading(filename: str, map_location: Any = None, logger: Any = None) -> Any:
        return read(filename, map_location, logger or 'current')  # without one it is printed

    def log_warning(message: Warning | str, category: type[Warning], *where: Any, **_: Any) -> None:
        place = ':'.join(map(str, where[:2]))
        text = f'{category.__name__}: {message} ({place})'
        MMLogger.get_current_instance().info(text, extra=dict(file_only=True))

    for logger in MMLogger._instance_dict.values():
        quieten(logger)
    MMLogger.__init__ = make
    try:
        with (
            warnings.catch_warnings(),
            mock.patch.object(CheckpointLoader, 'load_checkpoint', log_reading),
        ):
            warnings.showwarning = log_warning
            yield
    finally:
        MMLogger.__init__ = made
        for handler, formatter in changed:
            handler.removeFilter(selection)
            handler.setFormatter(formatter)


def quietly(act: Callable[[argparse.Namespace], None]) -> Callable[[argparse.Namespace], None]:
    """Have a tool that trains nothing print what a reader needs; all of it with ``--verbose``."""

    @functools.wraps(act)
    def run(args: argparse.Namespace) -> None:
        with quiet_terminal(args.verbose, times=False):
            act(args)

    return run


class SayWhatRuns(Hook):
    """Says in one line, before the first step, what is trained on, how long, and where it logs."""

    def before_train(self, runner: Any) -> None:
        """Say it."""
        data, step = runner.train_dataloader, images_per_step(runner)
        begun = ''
        if runner.iter:
            saved = Path(runner._load_from or 'the newest checkpoint').name
            begun = f', from step {runner.iter:,} on ({saved})'
        text = f'Training: {runner.max_iters:,} steps of {step} images{begun}'
        if hasattr(data.dataset, '__len__'):
            text += f', {len(data.dataset):,} images'
        if runner.val_loop is not None:
            text += f'; validation: {len(runner.val_dataloader.dataset):,} images'
        text += f'; on {next(runner.model.parameters()).device}.'
        runner.logger.info(f'{text} All is in {runner.logger.log_file} (--verbose prints it)')
