"""Two processes average their gradients in bfloat16 where they are told to."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from moca.engine import bf16_gradients
from moca.engine.bf16_gradients import Bf16Gradients, set_bf16_gradients
from moca.errors import UserError
from tests.processes import run_processes

BF16 = torch.bfloat16


def gradient(rank: int, model: nn.Module, scale: float = 1.0) -> Tensor:
    """Of this process's images."""
    generator = torch.Generator().manual_seed(rank)
    x = torch.randn(5, 16, generator=generator)
    (scale * model(x).square().mean()).backward()
    (weight,) = model.parameters()
    assert weight.grad is not None
    return weight.grad.clone()


def line() -> nn.Linear:
    torch.manual_seed(0)
    return nn.Linear(16, 8, bias=False)


def process(rank: int, folder: str) -> None:
    """What each of the two does: a step alone, one by DDP, and one with the hook in two parts."""
    torch.set_num_threads(1)
    dist.init_process_group(
        'gloo', init_method=f'file://{folder}/rendezvous', rank=rank, world_size=2
    )
    hooked = DistributedDataParallel(line(), gradient_as_bucket_view=True)
    said: list[str] = []
    logger = SimpleNamespace(info=said.append)
    Bf16Gradients().before_train(SimpleNamespace(model=hooked, logger=logger))
    found = dict(
        alone=gradient(rank, line()),
        plain=gradient(rank, DistributedDataParallel(line())),
        hooked=gradient(rank, hooked),
    )
    hooked.zero_grad()
    with hooked.no_sync():
        gradient(rank, hooked, 0.25)
    found['parts'] = gradient(rank, hooked, 0.75)
    torch.save({**found, 'said': said}, f'{folder}/{rank}.pth')


def test_the_average_is_that_of_rounded_gradients(tmp_path: Path) -> None:
    run_processes(process, (str(tmp_path),))
    first, second = (torch.load(tmp_path / f'{rank}.pth') for rank in range(2))
    assert 'travel as bfloat16' in first['said'][0]
    shares = [found['alone'].to(BF16) / 2 for found in (first, second)]
    expected = (shares[0] + shares[1]).float()
    mean = (first['alone'] + second['alone']) / 2
    torch.testing.assert_close(first['plain'], mean)
    assert not torch.allclose(expected, mean, rtol=1e-5)
    for found in (first, second):
        assert found['hooked'].dtype == torch.float32
        assert torch.equal(found['hooked'], expected)
        # parts add up in fp32 before they are rounded, once: another order of sums, at most
        torch.testing.assert_close(found['parts'], expected, rtol=2**-7, atol=2**-8 * 0.1)
        assert torch.equal(found['parts'], found['parts'].to(BF16).float())


def test_one_process_is_told_and_shards_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(bf16_gradients, 'print_log', lambda text, _: said.append(text))
    cfg = Config(dict(default_hooks=dict()))
    set_bf16_gradients(cfg, 'none')
    assert not cfg.default_hooks
    assert said == ['--bf16-gradients: one process sends no gradients; nothing changes.']
    monkeypatch.setenv('WORLD_SIZE', '2')
    set_bf16_gradients(cfg, 'pytorch')
    assert cfg.default_hooks.bf16_gradients.type == 'Bf16Gradients'
    cfg.strategy = dict(type='ShardedStrategy')
    with pytest.raises(UserError, match=r'--bf16-gradients: sharded .* strategy=None'):
        set_bf16_gradients(cfg, 'pytorch')
    with pytest.raises(UserError, match='the model is in a Linear'):
        Bf16Gradients().before_train(SimpleNamespace(model=line()))
