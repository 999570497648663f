"""What the benchmarks of segmentation print: versions below each other, and ours as ratios."""

from __future__ import annotations

import logging
import statistics
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

OURS = 'moca'


@dataclass(frozen=True)
class Version:
    """Figures of one version.

    Attributes:
        seconds: of each turn.
        bytes: the most that a turn needs at a time beyond weights, optimiser state and pictures.
        score: mIoU in percent, where there are labels.
        same: the share of pixels that have the class which ours gives them, where it is known.
    """

    seconds: list[float]
    bytes: int
    score: float | None = None
    same: float | None = None


@dataclass(frozen=True)
class Table:
    """Versions of the same work, measured in turn.

    Attributes:
        title: what was measured.
        batch: pictures a turn.
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
            median = statistics.median(version.seconds)
            score = '' if version.score is None else f'{version.score:.2f}'
            same = '' if version.same is None else f'{version.same:.4%}'
            rows.append(
                f'{name:24}{self.batch / median:12.3f}{median:12.3f}{version.bytes / 2**20:12.1f}'
                f'{score:>12}{same:>12}'.rstrip()
            )
        for name in self.versions:
            if name != OURS:
                ratios = f'{self.speedup(name):12.3f}{"":12}{self.memory_ratio(name):12.3f}'
                rows.append(f'{f"{OURS} / {name}":24}{ratios}')
        return '\n'.join(rows)


@contextmanager
def quiet() -> Iterator[None]:
    """Keep mmengine from listing every parameter that it initialises or finds frozen."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    finally:
        logging.disable(before)
