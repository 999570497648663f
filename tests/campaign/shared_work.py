"""What several processes of gloo return, and whether it is what one returns."""

from __future__ import annotations

import math
import multiprocessing
from collections.abc import Callable, Sequence
from datetime import timedelta
from itertools import islice
from multiprocessing import forkserver
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import torch.distributed as dist

from tests.campaign import shared_metrics
from tests.processes import run_processes

Work = Callable[..., Any]
"""A function of a module, of what it is given, rank and number of processes."""


def serve(modules: Sequence[str]) -> None:
    """Start the process that all others are forked from, if there is none, with these imports."""
    multiprocessing.set_forkserver_preload([*modules])
    forkserver.ensure_running()


def results_of(
    work: Work, given: Sequence[Any], count: int, folder: Path, apart: bool = False
) -> list[Any]:
    """What each of ``count`` processes of a group returns, in the order of their numbers.

    Args:
        work: Called as ``work(*given, rank, count)``.
        given: To it.
        count: Processes.
        folder: For what they write, which is empty before.
        apart: Break on purpose what joins them (`take_apart`).

    Raises:
        ProcessRaisedException: One of them has raised an error; its traceback is the text.
    """
    folder.mkdir()
    args = str(folder), count, work, tuple(given), apart
    run_processes(_one, args, count)
    return [torch.load(folder / f'{rank}.pth', weights_only=False) for rank in range(count)]


def _one(
    rank: int, folder: str, count: int, work: Work, given: tuple[Any, ...], apart: bool
) -> None:
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo',
        init_method=f'file://{folder}/rendezvous',
        rank=rank,
        world_size=count,
        timeout=timedelta(minutes=2),  # instead of half an hour, where one has failed
    )
    if apart:
        take_apart()
    torch.save(work(*given, rank, count), f'{folder}/{rank}.pth')


def take_apart() -> None:
    """Let each process keep its gradients and the results of its images to itself."""
    from mmengine.evaluator import metric
    from torch.futures import Future
    from torch.nn.parallel import DistributedDataParallel

    build = DistributedDataParallel.__init__

    def keep(state, bucket):  # type: ignore[no-untyped-def]  # torch looks at annotations
        future: Future[Any] = Future()
        future.set_result(bucket.buffer())
        return future

    def build_apart(self: Any, *args: Any, **kwargs: Any) -> None:
        build(self, *args, **kwargs)
        self.register_comm_hook(None, keep)

    DistributedDataParallel.__init__ = build_apart  # type: ignore[method-assign]
    metric.collect_results = lambda results, *_, **__: results


# ---------------------------------------------------------------------------- methods


def method_steps(name: str, images: int, seed: int, rank: int, count: int) -> Any:
    """Two steps of a method of pre-training on images that the processes share."""
    from tests.pretrain import one_step, shared_steps

    if name == 'MOCAPretrain':
        return one_step.take_steps(rank, count, images=images, seed=seed)
    return shared_steps.take_steps(name, rank, count, images, seed)


def check_methods(name: str, ranks: Sequence[Any], one: Any) -> None:
    """Losses, gradients, codebook, bank, teacher and averages are those of one process.

    Raises:
        AssertionError: They are not.
    """
    from tests.pretrain import one_step, shared_steps

    if name == 'MOCAPretrain':
        one_step.check_equal(ranks, one)
    else:
        shared_steps.check_equal(ranks, one, name)


# ---------------------------------------------------------------------------- orders of images

_EPOCHS = 3


def orders(images: int, seed: int, rank: int, count: int) -> dict[str, list[tuple[int, int]]]:
    """The images of this process in order, by every sampler of configs, with a seed or an epoch."""
    from mmengine.dataset import DefaultSampler, InfiniteSampler

    from moca.engine.epoch_order import EpochShuffle
    from moca.engine.exact_steps import ExactSampler

    data = range(images)
    found: dict[str, list[tuple[int, int]]] = {}
    for sampler in (InfiniteSampler, ExactSampler):
        endless = iter(sampler(data, shuffle=True, seed=seed))
        taken = [(int(place), getattr(place, 'seed', 0)) for place in islice(endless, 3 * images)]
        found[sampler.__name__] = taken
    shuffle = EpochShuffle(data, seed=seed)
    shuffle.epochs = _EPOCHS
    found['EpochShuffle'] = [(int(draw.image), draw.epoch) for draw in shuffle]
    found['DefaultSampler'] = [(place, 0) for place in DefaultSampler(data, shuffle=False)]
    return found


def check_orders(images: int, ranks: Sequence[Any], one: Any) -> None:
    """Taken in turn, the processes' images are those of one process, in its order.

    Raises:
        AssertionError: They are not.
    """
    for name, alone in one.items():
        turns = [
            each for turn in zip(*(rank[name] for rank in ranks), strict=True) for each in turn
        ]
        if name == 'EpochShuffle':  # leaves the remainder out of each epoch
            rest = images % len(ranks)
            whole = [alone[images * n : images * (n + 1) - rest] for n in range(_EPOCHS)]
            alone = [each for epoch in whole for each in epoch]
        elif name == 'DefaultSampler':  # fills the last turn with the first ones
            assert len(turns) == math.ceil(images / len(ranks)) * len(ranks)
            turns = turns[:images]
        assert turns[: len(alone)] == alone[: len(turns)], name
        assert len(turns) >= len(alone), name


# ---------------------------------------------------------------------------- evaluations


def knn_of_monitor(folder: str, seed: int, rank: int, count: int) -> dict[str, float]:
    """A look of the monitor of pre-training."""
    from tests.pretrain.monitors.monitored import measure

    return dict(measure(folder, queries=True, distributed=count > 1))


def features_of_images(kind: str, folder: str, seed: int, rank: int, count: int) -> Any:
    """Accuracy of the protocols which several processes share: k-NN and low-shot."""
    from moca.evaluation import extraction
    from moca.evaluation.knn import KNN
    from moca.evaluation.lowshot import LowShot
    from moca.evaluation.protocol import EvaluationRun
    from tests.evaluation.image_data import tiny_vit

    sets = [dict(data_root=folder, split=split) for split in ('train', 'val')]
    if kind == 'k-NN':
        evaluation: Any = KNN(*sets, k=(1, 4, 7), temperatures=(0.01, 0.07))
    else:
        evaluation = LowShot(*sets, shots=(1, 2, 'all'))
    evaluation.prepare()
    with mock.patch.object(extraction, 'PART', 5):  # several parts of few images
        result = evaluation.run(tiny_vit(), EvaluationRun(batch_size=3, seed=seed))
    return dict(result.metrics, **{'chosen': str(result.chosen)})


def metrics_of(name: str, folder: str, images: int, seed: int, rank: int, count: int) -> Any:
    """A metric of a validation."""
    return shared_metrics.found(name, Path(folder), images, seed)


def check_scores(ranks: Sequence[Any], one: Any) -> None:
    """Every process reports what one reports.

    Raises:
        AssertionError: It does not.
    """
    assert one, 'nothing was measured'
    for rank, scores in enumerate(ranks):
        assert scores.keys() == one.keys(), (rank, scores, one)
        for key, value in one.items():
            same = scores[key] == value
            if isinstance(value, float):
                both_nan = math.isnan(value) and math.isnan(scores[key])
                same = both_nan or math.isclose(scores[key], value, rel_tol=1e-6, abs_tol=1e-9)
            assert same, f'{key}: {scores[key]} in process {rank}, {value} in one'
