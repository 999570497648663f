"""Several processes do what one does, and end with the one that comes to grief."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from tests.campaign import protocol_steps, shared_metrics, shared_work
from tests.campaign.campaign import Area, Outcome
from tests.campaign.fates import FATES, Fate
from tests.campaign.numbers import PLACES
from tests.campaign.shared_numbers import Broken
from tests.campaign.shared_work import Work, results_of, serve
from tests.campaign.tool_runs import ALL, PRETRAINING

Draw = random.Random
COUNTS = (2, 3, 4)
"""Processes of a case."""

APART = False
"""Whether processes keep to themselves what they share, an injected fault."""


@dataclass(frozen=True)
class Prepared:
    """Work that processes share, with what it is given.

    Attributes:
        work: Of each process.
        given: To it, before its number and how many there are.
        check: Raises AssertionError where the results of the processes are not that of one.
        alone: What one process makes of it, if that is not the same work.
    """

    work: Work
    given: Sequence[Any]
    check: Callable[[Any, Any], None]
    alone: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Shared:
    """A kind of work that processes share.

    Attributes:
        title: Of the kind of case.
        prepare: Writes data into a folder, of a draw and a number of processes.
    """

    title: str
    prepare: Callable[[Draw, int, Path], Prepared]

    def run(
        self, draw: Draw, count: int, folder: Path, modules: Sequence[str], apart: bool
    ) -> Outcome:
        """Let one process and several do it, and compare."""
        serve(modules)
        case = self.prepare(draw, count, folder)
        about = f'{count} processes, {case.given}'
        ranks = results_of(case.work, case.given, count, folder / 'together', apart)
        one = case.alone() if case.alone else case.work(*case.given, 0, 1)
        try:
            case.check(ranks, one)
        except AssertionError as error:
            return Outcome(self.title, 'silent', f'{about}: {error}')
        return Outcome(self.title, 'equal', about)


def not_dividing(draw: Draw, count: int, low: int, high: int) -> int:
    """A number that is no multiple of the processes."""
    return draw.choice([number for number in range(low, high) if number % count])


def method(name: str) -> Shared:
    """Steps of a method of pre-training."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        images = count * draw.choice((2, 3, 4))
        given = name, images, draw.randrange(1000)
        return Prepared(shared_work.method_steps, given, partial(shared_work.check_methods, name))

    return Shared(f'steps of {name.removesuffix("Pretrain")}', prepare)


def order() -> Shared:
    """Which image is whose."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        images = not_dividing(draw, count, count + 1, 40)
        given = images, draw.randrange(1000)
        return Prepared(shared_work.orders, given, partial(shared_work.check_orders, images))

    return Shared('orders of images', prepare)


def metric(name: str) -> Shared:
    """A metric of a validation."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        images, seed = not_dividing(draw, count, count + 1, 14), draw.randrange(1000)
        if 'AP' in name or 'panoptic' in name:
            shared_metrics.write(folder, images, seed)
        given = name, str(folder), images, seed
        return Prepared(shared_work.metrics_of, given, shared_work.check_scores)

    return Shared(f'metric: {name}', prepare)


def monitor() -> Shared:
    """k-NN while pre-training."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        from tests.pretrain.monitors.monitored import write_classes

        seed = draw.randrange(1000)
        for number, (split, low) in enumerate((('train', 4), ('val', 2))):
            per_class = draw.choice([n for n in range(low, low + 5) if 3 * n % count or count == 3])
            write_classes(folder / split, per_class, seed=2 * seed + number)
        given = str(folder), seed
        return Prepared(shared_work.knn_of_monitor, given, shared_work.check_scores)

    return Shared('metric: k-NN while pre-training', prepare)


def evaluation(kind: str) -> Shared:
    """A protocol on features of images that several processes compute."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        from tests.evaluation.image_data import write_images

        seed = draw.randrange(1000)
        for number, split in enumerate(('train', 'val')):
            counts = {name: draw.randint(3, 6) for name in ('ant', 'bee', 'cow')}
            counts['ant'] += sum(counts.values()) % count == 0  # no multiple of the processes
            write_images(folder / split, counts, seed=2 * seed + number)
        given = kind, str(folder), seed
        return Prepared(shared_work.features_of_images, given, shared_work.check_scores)

    return Shared(f'metric: {kind} of images', prepare)


def step(protocol: protocol_steps.Protocol) -> Shared:
    """A training step of a protocol."""

    def prepare(draw: Draw, count: int, folder: Path) -> Prepared:
        seed = draw.randrange(1000)
        protocol.prepare(folder, count * protocol_steps.EACH, seed)
        alone = partial(protocol_steps.one_process, str(folder), seed, count, protocol.whole)
        given = str(folder), seed
        return Prepared(protocol_steps.take_step, given, protocol_steps.check_step, alone)

    return Shared(f'a step: {protocol.title}', prepare)


METHODS = ('MOCAPretrain', 'MACRLPretrain', 'MAEPretrain', 'CANPretrain', 'MOMAPretrain')
KINDS: tuple[Shared | Fate | Broken, ...] = (
    method('MOCAPretrain'),
    metric('accuracy'),
    order(),
    Fate('is killed'),
    evaluation('k-NN'),
    *map(method, METHODS[1:]),
    *map(metric, list(shared_metrics.METRICS)[1:]),
    monitor(),
    evaluation('low-shot'),
    *map(step, protocol_steps.PROTOCOLS),
    *(Fate(name) for name in FATES if name != 'is killed'),
    *map(Broken, PLACES),
)


class Processes(Area):
    """Two, three and four processes of gloo."""

    name = 'processes'
    title = 'Processes'
    seconds = 600.0
    modules: tuple[str, ...] = ALL
    proofs = (
        ('steps of MOCA', 'silent'),
        ('metric: accuracy', 'silent'),
        ('one is killed', 'unnamed|hang'),
    )

    def count(self, quick: bool) -> int:
        """Each kind by two, three and four processes; with ``quick`` the first five by one."""
        self.modules = PRETRAINING if quick else ALL
        return 5 if quick else len(COUNTS) * len(KINDS)

    def run(self, number: int, folder: Path) -> Outcome:
        """A kind of case, by a number of processes; the rest is drawn."""
        turn, place = divmod(number, len(KINDS))
        draw, count = random.Random(f'{self.seed} {number}'), COUNTS[(place + turn) % len(COUNTS)]
        return KINDS[place].run(draw, count, folder.resolve(), self.modules, APART)

    def inject(self) -> None:
        """Processes keep gradients and results to themselves, and do not look at each other."""
        globals()['APART'] = True
