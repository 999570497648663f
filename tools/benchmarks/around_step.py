"""What training pays around its steps: for a checkpoint, and for keeping a log."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from mmengine.runner import LogProcessor, Runner

from moca.engine.checkpoints import AtomicCheckpointHook
from moca.engine.histories import cap_histories
from tools.benchmarks.pretrain_step import build_method

# what a step of MOCA logs, and mmengine beside it
_LOGGED = (
    *('loss', 'kl_image', 'kl_dense', 'assignment_entropy', 'words_in_use', 'words_per_image'),
    *('normalizer', 'grad_norm', 'lr', 'weight_decay', 'time', 'data_time'),
)


@dataclass(frozen=True)
class Saving:
    """Seconds of one checkpoint.

    Attributes:
        bytes: Of the file.
        plain: For which training waits when mmengine writes, atomically.
        ours: For which it waits when a thread writes: medians of the first and of later ones,
            which find the first one's memory.
        written: Until the file is there, by the thread.
    """

    bytes: int
    plain: float
    ours: tuple[float, float]
    written: float

    def __str__(self) -> str:
        first, later = self.ours
        return (
            f'a checkpoint of {self.bytes / 2**20:,.0f} MiB; training waits\n'
            f'  mmengine    {self.plain:8.2f} s\n'
            f'  ours        {later:8.2f} s ({first:.2f} s for the first), and the file is there '
            f'after {self.written:.2f} s\n'
            f'  ratio       {self.plain / later:8.1f}'
        )


def measure_saving(cfg: Config, rounds: int, device: torch.device, folder: str | None) -> Saving:
    """Save the state of a run, by mmengine and by our hook in turn.

    Args:
        cfg: Of a pre-training; changed.
        rounds: How many checkpoints each writes.
        device: Where the state is.
        folder: Where to write, on the disk that is to be measured; a temporary one if None.
    """
    model, wrapper = build_method(cfg, 'float32', device)
    for group in wrapper.optimizer.param_groups:
        for parameter in group['params']:
            parameter.grad = torch.zeros_like(parameter)
    wrapper.optimizer.step()  # makes its state
    wrapper.optimizer.zero_grad()
    with tempfile.TemporaryDirectory(dir=folder) as name:
        runner = Runner(
            model,
            name,
            train_dataloader=dict(dataset=[0], batch_size=1, sampler=dict(type='DefaultSampler')),
            train_cfg=dict(by_epoch=True, max_epochs=1),
            optim_wrapper=wrapper,
            default_hooks=dict(logger=None),
            log_level='ERROR',
        )
        runner.train_loop  # noqa: B018  (builds it)
        runner.param_schedulers = []
        hook = AtomicCheckpointHook(interval=1, max_keep_ckpts=1)
        hook.before_train(runner)
        plain, ours, written = [], [], []
        for number in range(rounds):
            plain.append(_seconds(lambda: _save_plainly(runner, name)))
            since = time.perf_counter()
            hook._save_checkpoint_with_step(runner, number, {})
            ours.append(time.perf_counter() - since)
            hook._writer.wait()
            written.append(time.perf_counter() - since)
        size = Path(name, 'plain.pth').stat().st_size
    later = statistics.median(ours[1:] or ours)
    return Saving(size, statistics.median(plain), (ours[0], later), statistics.median(written))


def _save_plainly(runner: Any, folder: str) -> None:
    runner.save_checkpoint(folder, 'plain.pth', meta={}, backend_args=dict(backend='atomic'))


@dataclass(frozen=True)
class Logging:
    """What the log costs at a step of a long run.

    Attributes:
        steps: That the run has had.
        seconds: A step, as mmengine keeps histories and as we do.
        bytes: Of the histories in a checkpoint, likewise.
    """

    steps: int
    seconds: tuple[float, float]
    bytes: tuple[int, int]

    def __str__(self) -> str:
        (plain, ours), (large, small) = self.seconds, self.bytes
        return (
            f'{len(_LOGGED)} values logged at each step, after {self.steps:,} steps\n'
            f'  mmengine    {1e3 * plain:8.3f} ms a step, {large / 2**20:8.2f} MiB saved\n'
            f'  ours        {1e3 * ours:8.3f} ms a step, {small / 2**20:8.2f} MiB saved\n'
            f'  ratio       {plain / ours:8.1f}{"":11}{large / small:8.0f}'
        )


def measure_logging(steps: int, rounds: int = 200) -> Logging:
    """Time what mmengine's message hub does at a step, late in a run.

    Args:
        steps: That the run has had.
        rounds: How many more to time; ours are cut as at a line of the log, every 50 steps.
    """
    seconds, sizes = [], []
    for capped in (False, True):
        hub = MessageHub(f'logging {steps} {capped}')
        for name in _LOGGED:
            hub.log_scalars[f'train/{name}'] = HistoryBuffer([0.5] * steps, [1] * steps)
            hub._resumed_keys[f'train/{name}'] = True
        runner = SimpleNamespace(message_hub=hub, log_processor=LogProcessor(50))

        def step(number: int, runner: Any = runner, capped: bool = capped) -> None:
            for name in _LOGGED:
                runner.message_hub.update_scalar(f'train/{name}', float(number))
            if capped and number % 50 == 0:
                cap_histories(runner, 'train', steps)

        step(0)
        since = time.perf_counter()
        for number in range(1, rounds + 1):
            step(number)
        seconds.append((time.perf_counter() - since) / rounds)
        sizes.append(
            sum(array.nbytes for history in hub.log_scalars.values() for array in history.data)
        )
    return Logging(steps, (seconds[0], seconds[1]), (sizes[0], sizes[1]))


def _seconds(call: Callable[[], object]) -> float:
    since = time.perf_counter()
    call()
    return time.perf_counter() - since
