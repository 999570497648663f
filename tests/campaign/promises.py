"""What runs leave behind and say when a signal or a disk ends them, held against the promises."""

from __future__ import annotations

import contextlib
import fcntl
import json
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from moca.engine.checkpoints import latest_checkpoint
from moca.records.run_logs import read_curves
from tests.campaign.tiny_runs import EVERY, STEPS
from tests.campaign.tool_runs import SIGNAL, Ended, Moment

INTERRUPTED = {signal.SIGTERM: 143, signal.SIGINT: 130}


class Fault(Exception):
    """What is not promised: the result of a case, and what it was."""

    def __init__(self, result: str, detail: object) -> None:
        super().__init__(result, str(detail))


def steps_of(path: Path | None) -> int:
    """After how many steps a checkpoint was written; 0 for none."""
    return int(path.stem.rpartition('_')[2]) if path else 0


def check_left(folder: Path, before: int, ended: Ended) -> None:
    """Hold what a process leaves behind against what it did: nothing broken, nothing lost.

    Args:
        folder: The work dir.
        before: The step that the process started from.
        ended: The process.

    Raises:
        Fault: It is not as promised.
    """
    for path in sorted(folder.rglob('*.pth')) if folder.is_dir() else ():
        try:
            torch.load(path, weights_only=False)
        except Exception as error:
            raise Fault('unreadable', f'{path.name}: {error!r}') from error
    for path in folder.glob('run*.json'):
        try:
            json.loads(path.read_text())
        except ValueError as error:
            raise Fault('unreadable', f'{path.name}: {error}') from error
    newest = steps_of(latest_checkpoint(folder)) if folder.is_dir() else 0
    # the last one may have been at work
    saved = ended.count('before_save_checkpoint') - 1
    if newest < before or (saved > 0 and newest < (before // EVERY + saved) * EVERY):
        raise Fault('lost', f'from {before}, {saved} saved, the newest is {newest}')
    if is_locked(folder):
        raise Fault('locked', folder)


def is_locked(folder: Path) -> bool:
    """Whether a process has a work dir."""
    with contextlib.suppress(FileNotFoundError), (folder / '.lock').open('r+') as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def check_signal(
    moment: Moment, before: int, folder: Path, ended: Ended, alone: bool = True
) -> None:
    """Hold the end of a process against the signal that it got.

    Args:
        moment: Of the signal, which has come.
        before: The step that the process started from.
        folder: The work dir.
        ended: The process.
        alone: Whether no other has to agree on its end, which takes up to two seconds: several may
            have trained to their end by then.

    Raises:
        Fault: It is not as promised.
    """
    said = f'exit {ended.code}: {ended.said[-2000:]}'
    if moment.number == signal.SIGKILL:
        if ended.code != -signal.SIGKILL:
            raise Fault('traceback', said)
        return
    code = INTERRUPTED[signal.Signals(moment.number)]
    # before the run, SIGTERM ends a process as it ends any; after it, there is nothing to save
    if ended.code not in (code, 0, -moment.number) or 'Traceback' in ended.said:
        raise Fault('traceback', said)
    if ended.code == -moment.number and _is_handled(ended):
        raise Fault('not heeded', said)
    if ended.code == 0 and alone and ended.count('before_train_iter', since_signal=True):
        raise Fault('not heeded', said)
    if ended.code == code:
        last = ended.said.strip().splitlines()[-1]
        if not last.startswith('Interrupted.'):
            raise Fault('unnamed', last)
        done = before + ended.count('after_train_iter')
        newest = steps_of(latest_checkpoint(folder)) if folder.is_dir() else 0
        if _is_saved_after(ended) and newest != done:
            raise Fault('lost', f'{done} steps were taken, the newest checkpoint is {newest}')


def check_queue_signal(moment: Moment, runs: Sequence[Path], ended: Ended) -> None:
    """Hold the end of a queue of runs against the signal that it got.

    Between the start of its first run and the end of its last one it ends with 143 or 130, after
    its runs have. Earlier SIGTERM ends it as it ends any process, later there is nothing to end.

    Args:
        moment: Of the signal, which has come.
        runs: The work dirs of all its runs.
        ended: The queue.

    Raises:
        Fault: It is not as promised.
    """
    said = f'exit {ended.code}: {ended.said[-2000:]}'
    if moment.number == signal.SIGKILL:
        allowed = [-signal.SIGKILL]
    else:
        allowed = [INTERRUPTED[signal.Signals(moment.number)]]
        place = next(n for n, event in enumerate(ended.events) if event.startswith(SIGNAL))
        # by then the queue holds the signal
        begun = any(event.endswith(' open:queue.log') for event in ended.events[:place])
        if not begun:
            allowed.append(-moment.number)
        if all(_is_finished(run) for run in runs):
            allowed += [0, -moment.number]
    if ended.code not in allowed or 'Traceback' in ended.said:
        raise Fault('traceback', said)
    if ended.code in INTERRUPTED.values():
        last = ended.said.strip().splitlines()[-1]
        if not last.startswith('Interrupted.'):
            raise Fault('unnamed', last)


def _is_finished(run: Path) -> bool:
    record = run / 'run.json'
    return record.is_file() and json.loads(record.read_text()).get('status') == 'finished'


def _is_handled(ended: Ended) -> bool:
    """Whether a process got its signal within a run, which handles it."""
    labels = [event.split(' ')[1] for event in ended.events]
    place = next(n for n, event in enumerate(ended.events) if event.startswith(SIGNAL))
    return 'before_train' in labels[:place] and 'after_run' not in labels[: place + 2]


def _is_saved_after(ended: Ended) -> bool:
    """Whether a process got its signal while it trained, so that it saves after the step.

    Within a validation it ends at once: what was trained since the last checkpoint is lost.
    """
    labels = [event.split(' ')[1] for event in ended.events]
    place = next(n for n, event in enumerate(ended.events) if event.startswith(SIGNAL))
    # events are noted a little before hooks act, and a signal a little before it has come
    before = labels[: place + 2]
    validates = before.count('before_val') > labels[: place - 1].count('after_val')
    return 'before_train' in before[:place] and 'after_train' not in before and not validates


def check_other(victim: int, ended: Ended, other: Ended) -> None:
    """Hold the end of a process of several against that of the one that got a signal.

    It ends with the exit status of the other and says `Interrupted.`; or by an error that names the
    other, which has gone without a word; or it had done its work.

    Raises:
        Fault: It is not as promised.
    """
    said = f'exit {other.code} beside {ended.code}: {other.said[-2000:]}'
    lines = [line for line in other.said.splitlines() if line.startswith('error: ')]
    if 'Traceback' in other.said or len(lines) > 1:
        raise Fault('traceback', said)
    if other.code == 0:
        fine = other.count('after_run') == 1
    elif other.code in INTERRUPTED.values():
        fine = other.code == ended.code and 'Interrupted.' in other.said
    else:
        named = any(name in said for name in (f'process {victim}', 'the first process'))
        fine = ended.code < 0 and other.code in (1, 2) and len(lines) == 1 and named
    if not fine:
        raise Fault('unnamed', said)


def check_same(ours: Path, whole: Path, alike: int = STEPS) -> None:
    """Hold a work dir against that of a run to which nothing has happened.

    Args:
        ours: The work dir.
        whole: The other one.
        alike: The step up to which they have to be alike bit for bit; after it, other crops of the
            same images are drawn.

    Raises:
        Fault: They differ.
    """
    if partial := [path.name for path in ours.rglob('.*.partial')]:
        raise Fault('partial', partial)
    names = [sorted(path.name for path in each.glob('*.pth')) for each in (ours, whole)]
    if f'iter_{STEPS}.pth' not in names[0]:
        raise Fault('differs', names)
    loaded = (
        torch.load(folder / f'iter_{STEPS}.pth', weights_only=False) for folder in (ours, whole)
    )
    mine, theirs = (
        {key: content.get(key) for key in ('state_dict', 'optimizer', 'ema_state_dict')}
        for content in loaded
    )
    if alike == STEPS and (different := list(differing(mine, theirs))):
        raise Fault('differs', different[:5])
    if mine['state_dict'].keys() != theirs['state_dict'].keys():
        raise Fault('differs', 'names of weights')
    noted = (ours / 'last_checkpoint').read_text().rpartition('/')[2]
    if noted != f'iter_{STEPS}.pth':
        raise Fault('differs', f'last_checkpoint names {noted}')
    records = [json.loads((each / 'run.json').read_text()) if (each / 'run.json').is_file() else {}
               for each in (ours, whole)]  # fmt: skip
    results = ('metrics', 'best') if alike == STEPS else ()
    for key in ('status', 'iterations', 'train_images', *results):
        if records[0].get(key) != records[1].get(key):
            raise Fault('differs', [key, *(record.get(key) for record in records)])
    curves = [read_curves(each)['loss'] for each in (ours, whole)]
    (mine, theirs) = ([steps.tolist(), values.tolist()[:alike]] for steps, values in curves)
    if mine != theirs:
        raise Fault('log differs', [mine, theirs])


def differing(mine: Any, theirs: Any, name: str = '') -> Iterator[str]:
    """Names of the values in which nested dicts and lists differ, tensors bit by bit."""
    if isinstance(theirs, Tensor):
        same = isinstance(mine, Tensor) and torch.equal(mine, theirs)
    elif isinstance(theirs, dict):
        same = isinstance(mine, dict) and mine.keys() == theirs.keys()
        for key in theirs if same else ():
            yield from differing(mine[key], theirs[key], f'{name}.{key}')
    elif isinstance(theirs, list | tuple):
        same = isinstance(mine, list | tuple) and len(mine) == len(theirs)
        for place, value in enumerate(theirs if same else ()):
            yield from differing(mine[place], value, f'{name}.{place}')
    else:
        same = bool(mine == theirs)
    if not same:
        yield name
