"""Batches that a GPU gets ahead of time are those of the loader; what is waited for is counted."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from mmengine.logging import HistoryBuffer, MessageHub

from moca.engine import accumulate
from moca.engine.accumulate import train_on_parts
from moca.engine.prefetch import Prefetched


def batches(taken: list[int], count: int = 3) -> Iterator[dict[str, Any]]:
    for number in range(count):
        taken.append(number)
        images = torch.full((64, 3, 32, 32), number, dtype=torch.uint8)
        if torch.cuda.is_available():
            images = images.pin_memory()
        yield dict(view1=images, index=torch.tensor([number]))


def test_a_cpu_gets_each_batch_when_it_asks_for_it() -> None:
    taken: list[int] = []
    source = list(batches([]))
    ours = Prefetched(batches(taken), torch.device('cpu'))
    for number, expected in enumerate(source):
        ours.ahead()
        assert len(taken) == number
        batch = next(ours)
        assert all(torch.equal(batch[name], value) for name, value in expected.items())
    ours.ahead()
    with pytest.raises(StopIteration):
        next(ours)
    given = [object(), [torch.zeros(1)]]
    assert list(Prefetched(iter(given), torch.device('cpu'))) == given  # type: ignore[arg-type]


@pytest.mark.gpu
def test_a_gpu_gets_the_next_batch_beside_a_step() -> None:
    taken: list[int] = []
    ours = Prefetched(batches(taken, 20), torch.device('cuda'))
    matrix = torch.randn(2048, 2048, device='cuda')
    sums = []
    for number in range(20):
        batch = next(ours)
        assert batch['view1'].device.type == 'cuda'
        assert batch['index'].device.type == 'cpu'
        for _ in range(10):
            matrix = torch.nn.functional.normalize(matrix @ matrix)
        sums.append(batch['view1'].double().mean())  # queued behind the products
        del batch  # its memory may be had by a later one
        ours.ahead()
        ours.ahead()
        assert len(taken) == min(number + 2, 20)
    assert [float(value) for value in sums] == list(range(20))
    with pytest.raises(StopIteration):
        next(ours)


@pytest.mark.parametrize('count', [1, 4])
def test_every_part_of_a_step_is_waited_for(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    now = [0.0]
    monkeypatch.setattr(accumulate.time, 'perf_counter', lambda: now[0])

    def slow() -> Iterator[dict[str, Any]]:
        for number in range(3):
            now[0] += 2.0**number
            yield {}

    class Model:
        def train_step(self, *_: Any, **__: Any) -> dict[str, torch.Tensor]:
            now[0] += 100
            return dict(loss=torch.zeros(()))

    hub = MessageHub(f'waiting {count}')
    runner = SimpleNamespace(model=Model(), optim_wrapper=None, message_hub=hub)
    train_on_parts(runner, {}, slow(), count)  # without a timer nothing is kept
    assert not hub.log_scalars
    hub.log_scalars['train/data_time'] = HistoryBuffer([3.0, 0.5], [1, 1])
    train_on_parts(runner, {}, slow(), count)
    expected = 0.5 + (1 + 2 + 4 if count == 4 else 0)
    assert hub.get_scalar('train/data_time').data[0].tolist() == [3.0, expected]
