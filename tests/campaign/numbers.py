"""Numbers that are none, at any place of a step: the run ends, and what it has saved is sound."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.runner import Runner
from torch import Tensor

from moca.engine import watch
from moca.engine.background import finish_jobs
from moca.engine.checkpoints import latest_checkpoint
from moca.errors import UserError
from tests.campaign.campaign import Area, Outcome
from tests.engine import test_accumulate

Draw = random.Random
STEPS, EVERY = 6, 2
"""Steps of a run, and after how many a checkpoint is written."""

BROKEN = {'not a number': float('nan'), 'infinity': float('inf'), 'minus infinity': -float('inf')}
PRECISIONS = ('float32', 'bfloat16', 'float16')


class Break(Hook):
    """Puts a number that is none somewhere in the step of a number (from 1)."""

    priority = 'VERY_HIGH'

    def __init__(self, place: str, step: int, value: float) -> None:
        self.place, self.step, self.value = place, step, value

    def before_train(self, runner: Any) -> None:
        """Break from within what the step calls by itself."""
        self._model = getattr(runner.model, 'module', runner.model)
        self._runner = runner
        if self.place == 'a gradient':
            self._model.line.weight.register_hook(self._broken)
        elif self.place == 'the loss':
            forward = self._model.forward
            self._model.forward = lambda **batch: self._of_losses(forward(**batch))

    def _is_now(self) -> bool:
        return bool(self._runner.iter + 1 == self.step)

    def _broken(self, gradient: Tensor) -> Tensor:
        return gradient * self.value if self._is_now() else gradient

    def _of_losses(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        return {k: v * self.value for k, v in losses.items()} if self._is_now() else losses

    def before_train_iter(self, runner: Any, batch_idx: int, data_batch: Any = None) -> None:
        """Break what the step starts from."""
        if not self._is_now():
            return
        if self.place == 'an image':
            data_batch['inputs'].view(-1)[0] = self.value
        elif self.place == 'a weight':
            self._model.line.weight.data.view(-1)[1] = self.value

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Break what the step leaves."""
        if self._is_now() and self.place in STATES:
            (state, *_) = runner.optim_wrapper.optimizer.state.values()
            state[STATES[self.place]].view(-1)[0] = self.value


STATES = {'a momentum': 'exp_avg', 'a second moment': 'exp_avg_sq'}
PLACES = ('the loss', 'a gradient', 'an image', 'a weight', *STATES)


def draw(source: Draw) -> dict[str, Any]:
    """What is broken where and when, in which precision, with or without clipping and logging."""
    return dict(
        place=source.choice(PLACES),
        step=source.randint(1, STEPS),
        value=source.choice(sorted(BROKEN)),
        precision=source.choice(PRECISIONS),
        clip=source.random() < 0.5,
        log=source.choice((1, 3, 50)),
    )


def config(case: dict[str, Any], folder: Path, **fields: Any) -> Config:
    """A run of a line with AdamW."""
    cfg = test_accumulate.config(folder, 8, steps=STEPS)
    if case['precision'] != 'float32':
        cfg.optim_wrapper.update(type='AutocastOptimWrapper', dtype=case['precision'])
        if case['precision'] == 'float16':
            cfg.optim_wrapper.init_scale = 16.0  # at which nothing overflows by itself
    if case['clip']:
        cfg.optim_wrapper.clip_grad = dict(max_norm=0.5)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=case['log'])
    cfg.log_level = 'ERROR'
    cfg.experiment_name = str(folder)  # by which mmengine keeps loggers
    cfg.merge_from_dict(fields)
    return cfg


def train(case: dict[str, Any], cfg: Config) -> str | None:
    """Run, and return the message that the run ended with, None of one that went through."""
    runner = Runner.from_cfg(cfg)
    runner.register_hook(Break(case['place'], case['step'], BROKEN[case['value']]))
    try:
        runner.train()
    except UserError as error:
        return str(error)
    finally:
        finish_jobs()  # as a tool does
    return None


def judge(case: dict[str, Any], folder: Path, message: str | None) -> Outcome:
    """Hold what a run said and left behind against what is promised."""
    kind = f'{case["place"]}, {case["precision"]}'
    skipped = case['place'] == 'a gradient' and case['precision'] == 'float16'
    # broken after the step of a checkpoint, but before it is written
    sound = STEPS // EVERY if skipped else (case['step'] - 1) // EVERY
    if skipped != (message is None):
        return Outcome(kind, 'silent', f'{case}: {message}')
    if fault := unsound(folder, sound):
        return Outcome(kind, 'silent', f'{case}: {fault}')
    if message is None:
        return Outcome(kind, 'accepted', 'the step was left out')
    if 'step ' not in message or '\n' in message or str(folder) not in message:
        return Outcome(kind, 'unnamed', message)
    return Outcome(kind, 'refused', message)


def unsound(folder: Path, count: int) -> str | None:
    """What is wrong with the checkpoints of a work dir: numbers that are none, or how many."""
    saved = sorted(folder.glob('*.pth'), key=lambda path: int(path.stem.split('_')[1]))
    for path in saved:
        if wrong := _not_finite(torch.load(path, weights_only=False)):
            return f'{path.name} was saved with {wrong}'
    if len(saved) != count or (latest_checkpoint(folder) is None) != (count == 0):
        return f'{[path.name for path in saved]} are there, and {count} are sound'
    return None


def _not_finite(content: Any, name: str = '') -> str | None:
    """The name of a tensor with a number that is none."""
    if isinstance(content, Tensor):
        return None if content.isfinite().all() else name
    items = content.items() if isinstance(content, dict) else ()
    found = (_not_finite(value, f'{name}.{key}') for key, value in items if key != 'message_hub')
    return next((each for each in found if each), None)


def look_at_no_numbers() -> None:
    """Nothing looks at numbers: an injected fault."""
    for name in ('check_values', 'check_weights', 'check_optimizer', 'check_processes'):
        setattr(watch, name, lambda *args, **kwargs: None)


class Numbers(Area):
    """NaN and infinity in the loss, a gradient, a weight, an image or the optimizer's state."""

    name = 'numbers'
    title = 'Numbers'
    proofs = (('.*, float32', 'silent'), ('.*, bfloat16', 'silent'), ('.*, float16', 'silent'))

    def count(self, quick: bool) -> int:
        """Each of 36 kinds some ten times."""
        return 12 if quick else 400

    def run(self, number: int, folder: Path) -> Outcome:
        """One process."""
        case = draw(random.Random(f'{self.seed} {number}'))
        cfg = config(case, folder)
        return judge(case, folder, train(case, cfg))

    def inject(self) -> None:
        """Nothing looks at numbers."""
        look_at_no_numbers()
