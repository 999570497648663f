"""What benchmarks share: a table of versions with ratios to ours, and training steps to time."""

from __future__ import annotations

import copy
import gc
import logging
import statistics
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper, build_optim_wrapper

from moca.engine.amp import enable_amp
from tools.benchmarks.measure import peak_bytes, take_turns

OURS = 'ours'


@dataclass(frozen=True)
class Version:
    """Figures of one version.

    Attributes:
        seconds: of each turn.
        bytes: the most that a turn needs at a time beyond weights, optimizer state and images.
        score: mIoU in percent, where there are labels.
        same: the share of pixels that have the class which ours gives them, where it is known.
        flops: of a turn; 0 where they are not counted.
    """

    seconds: list[float]
    bytes: int
    score: float | None = None
    same: float | None = None
    flops: int = 0

    @property
    def median(self) -> float:
        """Seconds a turn."""
        return statistics.median(self.seconds)


@dataclass(frozen=True)
class Table:
    """Versions of the same work, measured in turn.

    Attributes:
        title: what was measured.
        batch: images a turn.
        versions: by name; ours among them.
    """

    title: str
    batch: int
    versions: dict[str, Version]

    def speedup(self, name: str) -> float:
        """Median over the turns of a version's time over ours."""
        pairs = zip(self.versions[name].seconds, self.versions[OURS].seconds, strict=True)
        return statistics.median(theirs / ours for theirs, ours in pairs)

    def memory_ratio(self, name: str) -> float:
        """Our peak memory over a version's."""
        return self.versions[OURS].bytes / self.versions[name].bytes

    def __str__(self) -> str:
        columns = ('images/s', 's/turn', 'peak MiB', 'mIoU', 'same class')
        rows = [self.title, f'{"":24}' + ''.join(f'{column:>12}' for column in columns)]
        for name, version in self.versions.items():
            score = '' if version.score is None else f'{version.score:.2f}'
            same = '' if version.same is None else f'{version.same:.4%}'
            rows.append(
                f'{name:24}{self.batch / version.median:12.3f}{version.median:12.3f}'
                f'{version.bytes / 2**20:12.1f}{score:>12}{same:>12}'.rstrip()
            )
        for name in self.versions:
            if name != OURS:
                ratios = f'{self.speedup(name):12.3f}{"":12}{self.memory_ratio(name):12.3f}'
                rows.append(f'{f"{OURS} / {name}":24}{ratios}')
        return '\n'.join(rows)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep mmengine from listing every parameter that it initializes or finds frozen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)


def measure_versions(
    calls: Mapping[str, Callable[[int], object]], turns: int, device: torch.device
) -> dict[str, Version]:
    """Time calls in turn, as `take_turns` has it, and then see what memory each needs."""
    seconds = take_turns(calls, turns, device)
    return {name: Version(seconds[name], peak_bytes(call, device)) for name, call in calls.items()}


def fits_gpu(call: Callable[[int], object]) -> bool:
    """Whether ``call(0)`` ends without running out of a GPU's memory, which is free again then."""
    try:
        call(0)
        return True
    except torch.OutOfMemoryError:
        pass
    # now that the exception, which holds on to the call's variables, is gone
    gc.collect()
    torch.cuda.empty_cache()
    return False


def training_wrapper(model: Any, cfg: Config, dtype: str, device: torch.device) -> OptimWrapper:
    """The optimizer of a config for a model, with autocast to `dtype` unless that is float32."""
    cfg = copy.deepcopy(cfg)
    for field in ('accumulative_counts', 'dtype'):
        cfg.optim_wrapper.pop(field, None)
    if dtype == 'float32':
        cfg.optim_wrapper.type = 'OptimWrapper'
    else:
        cfg.optim_wrapper.dtype = dtype
        enable_amp(cfg)
    built = build_optim_wrapper(model, cfg.optim_wrapper)
    if hasattr(built, 'device_type'):
        built.device_type = device.type  # it guesses
    return built


def training_step(model: Any, wrapper: OptimWrapper, data: dict[str, Any]) -> Callable[[int], Any]:
    """A call that takes a step on the same batch each time, and returns its losses."""

    def step(_: int) -> Any:
        samples = [sample.clone() for sample in data['data_samples']]  # padded in place
        return model.train_step(dict(inputs=list(data['inputs']), data_samples=samples), wrapper)

    return step
