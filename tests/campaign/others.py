"""What others do to a work dir: odd names, second starts, other umasks, clocks that jump."""

from __future__ import annotations

import contextlib
import os
import random
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from mmengine.runner import Runner

from moca.engine import work_dir
from moca.engine.agreement import Processes
from moca.engine.background import finish_jobs
from moca.engine.checkpoints import latest_checkpoint
from moca.engine.resume import settle_resume
from moca.errors import UserError
from moca.records.run_logs import read_curves
from moca.records.whole_files import write_atomically
from moca.results import claims
from tests.campaign.campaign import Area, Outcome
from tests.campaign.queues import two_queues
from tests.engine import test_accumulate

Draw = random.Random

NAMES = (
    *('with spaces ', ' before', 'Umläute ß é', 'имя', '图像', 'a\u0301 combined', '🙂'),
    *('[brackets]', '{braces}', '{}', '{0}', '%s %d', '$HOME', '~', '*', '?', 'a;b', 'a|b', 'a&b'),
    *("it's", '"quoted"', '`id`', '-dash', '--work-dir', '.hidden', 'dots..', '#hash', 'a=b'),
    *(
        'epoch_3.pth',
        'iter_9',
        'a:b',
        'a\\b',
        '<b>bold</b>',
        'x' * 200,
        'run.json',
        'last_checkpoint',
    ),
)


def _config(folder: Path, steps: int) -> Any:
    cfg = test_accumulate.config(folder, 8, steps=steps)
    cfg.default_hooks.checkpoint.max_keep_ckpts = 2
    cfg.default_hooks.logger = dict(type='LastStepLoggerHook', interval=1)
    cfg.log_processor = dict(by_epoch=False)
    # a start within the same second would share mmengine's folder of logs, and loggers
    cfg.experiment_name = f'{folder}/{steps}/{time.monotonic_ns()}'
    cfg.log_level, cfg.launcher = 'ERROR', 'none'
    return cfg


def _train(folder: Path, steps: int, resume: bool = False) -> Any:
    """Train to a step as a tool does, and return the weights."""
    cfg = _config(folder, steps)
    settle_resume(cfg, 'auto' if resume else None, Processes())
    try:
        with work_dir.alone_in_work_dir(cfg):
            work_dir.check_unused(cfg)
            runner = Runner.from_cfg(cfg)
            runner.train()
    finally:
        finish_jobs()
    return torch.cat([value.detach().flatten() for value in runner.model.parameters()])


def _odd_name(draw: Draw, folder: Path) -> Outcome:
    name = draw.choice(NAMES)
    depth = draw.choice((1, 1, 2, 4))
    odd = folder.joinpath('odd', *[name] * depth)
    kind = 'a work dir of an odd name'
    if draw.random() < 0.3:
        kind = 'a work dir behind a link'
        target = folder / 'target'
        target.mkdir()
        odd.parent.mkdir(parents=True, exist_ok=True)
        odd.symlink_to(target)
    if draw.random() < 0.3:
        kind = 'a relative work dir of an odd name'
        with contextlib.chdir(folder):
            return _resumes(kind, Path(os.path.relpath(odd, folder)), folder / 'plain')
    return _resumes(kind, odd, folder / 'plain')


def _resumes(kind: str, odd: Path, plain: Path) -> Outcome:
    """A run in an odd folder that goes on ends where one of an ordinary folder does."""
    truth = _train(plain, 4)
    try:
        _train(odd, 2)
        found = _train(odd, 4, resume=True)
        steps = read_curves(odd)['loss'][0].tolist()
    except UserError as error:
        named = str(odd) in str(error)
        return Outcome(kind, 'refused' if named else 'unnamed', str(error))
    if not torch.equal(truth, found):
        return Outcome(kind, 'silent', f'{odd}: other weights')
    if steps != [1, 2, 3, 4] or {path.name for path in odd.glob('*.pth')} != {
        'iter_2.pth',
        'iter_4.pth',
    }:
        return Outcome(kind, 'silent', f'{odd}: steps {steps}, {sorted(odd.iterdir())}')
    return Outcome(kind, 'equal')


HOLD = """
import fcntl, sys, time
with open(sys.argv[1], 'a+') as file:
    fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    file.truncate(0)
    file.write('process 7 on elsewhere')
    file.flush()
    print('ready', flush=True)
    time.sleep(60)
"""


def _second_start(draw: Draw, folder: Path) -> Outcome:
    """Another process is at work there; when it is killed, the folder is free again."""
    kind, run = 'two starts in one work dir', folder / draw.choice(NAMES)
    truth = _train(run, 2)
    before = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
    command = [sys.executable, '-S', '-c', HOLD, str(run / work_dir.LOCK)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()
        try:
            _train(run, 4, resume=True)
            outcome = Outcome(kind, 'silent', 'both have started')
        except UserError as error:
            named = str(run) in str(error) and 'process 7 on elsewhere' in str(error)
            outcome = Outcome(kind, 'refused' if named else 'unnamed', str(error))
        after = {path.name: path.read_bytes() for path in run.iterdir() if path.is_file()}
        holder.kill()
    if {**after, work_dir.LOCK: b''} != {**before, work_dir.LOCK: b''}:
        return Outcome(kind, 'silent', 'the second start has changed files of the first')
    if torch.equal(_train(run, 4, resume=True), truth):
        return Outcome(kind, 'silent', 'nothing was trained after the first had ended')
    return outcome


def _second_queue(draw: Draw, folder: Path) -> Outcome:
    """Another queue is at work on one of two runs, or a run's folder is removed."""
    held, other = (folder / draw.choice(NAMES) / name for name in 'ab')
    return two_queues(held, other, draw.random() < 0.5, HOLD)


def _umask(draw: Draw, folder: Path) -> Outcome:
    mask = draw.choice((0o000, 0o002, 0o022, 0o027, 0o077))
    kind, before = f'umask {mask:03o}', os.umask(mask)
    try:
        run = folder / 'run'
        _train(run, 2)
        write_atomically(run / 'run.json', b'{}')
    finally:
        os.umask(before)
    for path in [run, *run.rglob('*')]:
        wanted = (0o777 if path.is_dir() else 0o666) & ~mask
        found = stat.S_IMODE(path.stat().st_mode)
        if found != wanted:
            return Outcome(kind, 'silent', f'{path.name}: mode {found:03o}, not {wanted:03o}')
    return Outcome(kind, 'equal')


@contextlib.contextmanager
def _clock(draw: Draw) -> Iterator[Callable[[Path], None]]:
    """A clock that jumps by up to a day at each look at it; yields what sets times of files."""
    right = time.time
    time.time = lambda: right() + draw.uniform(-86_400, 86_400)

    def touch(path: Path) -> None:
        os.utime(path, (time.time(), time.time()))

    try:
        yield touch
    finally:
        time.time = right


def _jumping_clock(draw: Draw, folder: Path) -> Outcome:
    kind, run = 'a clock that jumps', folder / 'run'
    truth = _train(folder / 'plain', 6)
    with _clock(draw) as touch:
        for steps in (2, 4, 6):
            found = _train(run, steps, resume=steps > 2)
            for path in run.glob('*.pth'):
                touch(path)
            newest = latest_checkpoint(run)
            if newest is None or newest.name != f'iter_{steps}.pth':
                return Outcome(kind, 'silent', f'{newest} is taken for the newest of {steps}')
    if not torch.equal(truth, found):
        return Outcome(kind, 'silent', 'other weights')
    if (steps_logged := read_curves(run)['loss'][0].tolist()) != [1, 2, 3, 4, 5, 6]:
        return Outcome(kind, 'silent', f'the log has the steps {steps_logged}')
    return Outcome(kind, 'equal')


KINDS = (_odd_name, _second_start, _umask, _odd_name, _jumping_clock, _second_queue)


class Others(Area):
    """Names, users, clocks and second starts."""

    name = 'others'
    title = 'Files of others'
    proofs = (
        ('two starts in one work dir', 'silent'),
        ('two queues over one folder|a run of a queue that is removed', 'silent'),
    )

    def count(self, quick: bool) -> int:
        """Each name several times."""
        return len(KINDS) if quick else 50 * len(KINDS)

    def run(self, number: int, folder: Path) -> Outcome:
        """Draw by seed and number."""
        return KINDS[number % len(KINDS)](random.Random(f'{self.seed} {number}'), folder)

    def inject(self) -> None:
        """No run holds its work dir, and no queue the runs that it is at work on."""
        for module, guard in ((work_dir, 'alone_in_work_dir'), (claims, 'held')):
            setattr(module, guard, contextlib.nullcontext)
