"""What several processes share, and what each keeps to itself."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from moca.evaluation.classification.accuracy import ClassAccuracy
from moca.evaluation.classification.first_process import BuffersOfFirst
from moca.evaluation.classification.heads import ClassHead
from tests.processes import run_processes

IMAGES, CLASSES = 7, 3


def features() -> Tensor:
    """Of two processes' batches ``[2, 16, 4]``, far from each other."""
    drawn = torch.randn(2, 16, 4, generator=torch.Generator().manual_seed(0))
    return drawn + torch.tensor([0.0, 5.0])[:, None, None]


def logits() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    drawn = torch.randn(IMAGES, 1, CLASSES, generator=generator)
    return drawn, torch.randint(CLASSES, (IMAGES,), generator=generator)


def answer(metric: ClassAccuracy, places: list[int]) -> None:
    values, labels = logits()
    samples = [{'logits': values[place]} for place in places]
    metric.process({'label': labels[places]}, samples)


def work(rank: int, folder: str) -> None:
    """One of two processes: a step of the probe's batch norm, and its share of a validation."""
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    torch.manual_seed(0)
    head: Any = ClassHead(4, CLASSES, norm='batch')
    normed = head.norm(features()[rank])
    own = head.norm.running_mean.clone()
    BuffersOfFirst().before_val_epoch(SimpleNamespace(model=SimpleNamespace(head=head)))
    metric = ClassAccuracy()
    # a sampler pads seven images to four a process: the first comes twice
    answer(metric, [0, 2, 4, 6] if rank == 0 else [1, 3, 5, 0])
    found = metric.evaluate(IMAGES)
    torch.save(
        dict(normed=normed, own=own, at_test=head.norm.running_mean, found=found),
        f'{folder}/{rank}.pth',
    )
    dist.destroy_process_group()


@pytest.fixture(scope='module')
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    folder: Path = tmp_path_factory.mktemp('ranks')
    run_processes(work, (str(folder),), start_method='fork')
    return [torch.load(folder / f'{rank}.pth') for rank in range(2)]


def test_each_normalizes_by_its_own_batch(ranks: list[dict[str, Any]]) -> None:
    for rank, batch in enumerate(features()):
        expected = (batch - batch.mean(0)) / (batch.var(0, unbiased=False) + 1e-6).sqrt()
        torch.testing.assert_close(ranks[rank]['normed'], expected)
        torch.testing.assert_close(ranks[rank]['own'], 0.1 * batch.mean(0))


def test_the_first_ones_statistics_are_tested_with(ranks: list[dict[str, Any]]) -> None:
    assert torch.equal(ranks[0]['at_test'], ranks[0]['own'])
    assert torch.equal(ranks[1]['at_test'], ranks[0]['own'])
    assert not torch.equal(ranks[1]['own'], ranks[0]['own'])


def test_no_image_counts_twice(ranks: list[dict[str, Any]]) -> None:
    metric = ClassAccuracy()
    answer(metric, [*range(IMAGES)])
    alone = metric.evaluate(IMAGES)
    assert ranks[0]['found'] == ranks[1]['found'] == alone
