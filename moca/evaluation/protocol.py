"""What a protocol without training is: an evaluation of a frozen backbone, and what it is given."""

from __future__ import annotations

import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sized
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import torch
from mmengine.dist import get_rank
from mmengine.logging import print_log

from moca.backbone import PlainViT

T = TypeVar('T')

SAY_EVERY = 20.0
"""Seconds between lines of progress where there is no terminal to draw a bar on [our choice]."""


@dataclass(frozen=True)
class Result:
    """What an evaluation has measured.

    Attributes:
        metrics: By name; shares in percent.
        chosen: Everything that was chosen on data, and on which.
        settings: What the numbers depend on beside the checkpoint, as ``run.json`` keeps it.
    """

    metrics: dict[str, float]
    chosen: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class EvaluationRun:
    """How an evaluation is to run.

    Attributes:
        seed: Of everything random in it.
        device: Where the backbone is.
        precision: What the backbone autocasts to; None for fp32.
        num_workers: Of reading images, for each process.
        batch_size: Images of a forward pass and process.
        work_dir: Of the run; made already.
        checkpoint: What ``run.json`` says of the weights: path, digest, branch.
        cache: Folder of computed features; None keeps none.
    """

    seed: int = 0
    device: torch.device = field(default_factory=lambda: torch.device('cpu'))
    precision: torch.dtype | None = None
    num_workers: int = 0
    batch_size: int = 32
    work_dir: Path = Path('work_dirs')
    checkpoint: dict[str, Any] = field(default_factory=dict)
    cache: Path | None = None

    def progress(self, items: Iterable[T], about: str) -> Iterator[T]:
        """Go through `items` and show how far and how much longer: a bar, or lines of the log.

        Args:
            items: Of known length, or not.
            about: What they are, such as ``query images``.
        """
        total = len(items) if isinstance(items, Sized) else None
        if get_rank() != 0:
            yield from items
        elif sys.stderr.isatty():
            yield from _drawn(items, total, about)
        else:
            yield from _told(items, total, about)


class Evaluation(ABC):
    """A protocol that trains no backbone: a class of the registry `TASK_UTILS`.

    Its arguments are the protocol's settings, and are checked as it is made. Then :meth:`prepare`
    reads lists of files, before any weights; :meth:`run` measures.

    Attributes:
        train_images: How many images are learned from or compared with, of `prepare`.
        val_images: How many images are scored, or what `counted` says.
        counted: What they are.
        parallel: Whether several processes share the work. Others refuse to be started so.
        half: Whether ``--amp`` is followed. Others measure in fp32 alone.
    """

    train_images: int
    val_images: int
    counted: str = 'images'
    parallel: bool = False
    half: bool = False

    @abstractmethod
    def prepare(self) -> None:
        """Read the lists of files, and fill in `train_images` and `val_images`.

        Raises:
            UserError: Something about the data is wrong, with the remedy.
        """

    @abstractmethod
    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Measure a frozen backbone, which is in eval mode on the run's device."""


def _drawn(items: Iterable[T], total: int | None, about: str) -> Iterator[T]:
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    yield from track(items, about, total, console=console, transient=True)


def _told(items: Iterable[T], total: int | None, about: str) -> Iterator[T]:
    start = said = time.perf_counter()
    for done, item in enumerate(items, 1):
        yield item
        now = time.perf_counter()
        if now - said > SAY_EVERY:
            said = now
            text = f'{about}: {done:,}'
            if total is not None:
                left = (now - start) / done * (total - done)
                text += f' of {total:,}, {left:,.0f} s left'
            print_log(text, 'current')
