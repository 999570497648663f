"""Command lines: words in any order, and values that parse but that no run can have."""

from __future__ import annotations

import contextlib
import io
import random
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.campaign.campaign import Outcome
from tests.configs.helpers import REPOSITORY
from tools import pretrain, train

Draw = random.Random

_OPTIONS = (
    *('--data-root', '--checkpoint', '--arch', '--work-dir', '--seed', '--amp', '--resume'),
    *('--accumulate', '--launcher', '--cfg-options', '--branch', '--patch', '--mean', '--std'),
    *('--delta-of', '--trust', '--grid', '--subset', '--held-out', '--nothing', '--knn'),
)
_WORDS = (
    *('', '0', '-1', '1e9', 'nan', 'auto', 'none', 'pytorch', 'x=1', 'model=3', 'a.b.c=[', '[1,2]'),
    *('train_cfg.max_iters=-1', 'model.backbone.arch=x', 'é', '--', '../..', '/dev/null'),
)

_PATHS = ('nowhere', 'nowhere/x.pth', 'empty', 'some.txt', 'some.txt/x', '/dev/null', 'é ü', '../x')
_NUMBERS = ('0', '-1', '7', '99999999999')
_SHARES = ('0', '-0.5', '1', '1e9', 'nan', 'inf')
_CHANGES = (
    *('train_cfg.max_iters=-1', 'train_cfg.max_iters=many', 'train_cfg=3', 'train_cfg.type=None'),
    *('model.backbone.arch=x', 'model=3', 'model.type=Nothing', 'nothing.here=1', 'a.b.c=['),
    *('train_dataloader.batch_size=0', 'train_dataloader.batch_size=1.5', 'train_dataloader=1'),
    *('train_dataloader.dataset.type=3', 'optim_wrapper.optimizer.lr=nan', 'optim_wrapper=[1,2]'),
    *('optim_wrapper.optimizer.type=Adan', 'default_hooks.checkpoint.interval=0', 'custom_hooks=7'),
)
_BOTH: Mapping[str, Sequence[str]] = {
    '--data-root': _PATHS,
    '--checkpoint': _PATHS,
    '--arch': ('x', 'resnet50', 'vit_small_patch16x', 'patch_size=8', '1', 'é'),
    '--branch': ('teacher', 'student'),
    '--prefix': ('x.', '.'),
    '--patch': ('0', '7', '512'),
    '--delta-of': _PATHS,
    '--seed': ('0', '1', '4294967295'),
    '--accumulate': ('auto', '0', '-1', 'x', '1e3', '99999999999'),
    '--cfg-options': _CHANGES,
    '--amp': (),
    '--trust': (),
    '--resume': (),
    '--launcher': ('none', 'pytorch'),
}
VALUES: Mapping[Callable[..., int], Mapping[str, Sequence[str]]] = {
    train.main: {**_BOTH, '--subset': _NUMBERS, '--held-out': _SHARES, '--ema': _SHARES},
    pretrain.main: {**_BOTH, '--epochs': _NUMBERS, '--knn': _PATHS, '--dense': _PATHS},
}
"""Options of tools, with values that their parsers take; those without take none."""


def words(draw: Draw, folder: Path, configs: Sequence[str]) -> Outcome:
    """Options and words in any order, mostly refused by the parser."""
    tool = draw.choice([*VALUES])
    told = [str(REPOSITORY / 'configs' / draw.choice(configs))] if draw.random() < 0.9 else []
    for _ in range(draw.randint(1, 4)):
        told.append(draw.choice(_OPTIONS))
        told += [draw.choice(_WORDS) for _ in range(draw.randint(0, 2))]
    if '--work-dir' not in told:
        told += ['--work-dir', str(folder / 'run')]
    code, text = _said(tool, told, folder)
    if code == 2 and 'Traceback' not in text and 'error' in text:
        return Outcome('command line, words', 'refused', text[-300:])
    result = 'silent' if code == 0 else 'unnamed'
    return Outcome('command line, words', result, f'{told}: exit {code}: {text}')


def values(draw: Draw, folder: Path, configs: Sequence[str]) -> Outcome:
    """One to three options with values that the parser takes; the data are not there.

    What is refused has to be said in one line, the last, which names an option that was given, its
    value, or the data.
    """
    (folder / 'empty').mkdir()
    (folder / 'some.txt').write_text('some text')
    tool = draw.choice([*VALUES])
    place = {train.main: '', pretrain.main: 'pretrain'}[tool]
    config = draw.choice([name for name in configs if name.startswith('pretrain') == bool(place)])
    given: list[str] = []
    for option in draw.sample([*VALUES[tool]], draw.randint(1, 3)):
        given.append(option)
        given += [draw.choice(VALUES[tool][option])] if VALUES[tool][option] else []
    told = [str(REPOSITORY / 'configs' / config), *given, '--work-dir', str(folder / 'run')]
    code, text = _said(tool, told, folder)
    about, kind = f'{config} {given}: exit {code}: {text[-1500:]}', 'command line, values'
    if code == 0:
        return Outcome(kind, 'silent', about)
    if 'Traceback' in text:
        return Outcome(kind, 'traceback', about)
    lines = [line for line in text.splitlines() if line.strip()]
    errors = [line for line in lines if 'error: ' in line]
    keys = [each.partition('=')[0] for each in given]
    named = [word for word in (*given, *keys, *(key.rpartition('.')[2] for key in keys)) if word]
    if code != 2 or errors != lines[-1:] or not any(word in errors[0] for word in (*named, 'data')):
        return Outcome(kind, 'unnamed', about)
    return Outcome(kind, 'refused', about)


def _said(tool: Callable[..., int], told: Sequence[str], folder: Path) -> tuple[object, str]:
    """The exit code of a tool, and what it said to stderr."""
    said = io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.chdir(folder):
        try:
            code: object = tool([*told])
        except SystemExit as error:  # of argparse
            code = error.code
    return code, said.getvalue()
