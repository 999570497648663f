"""What a step sends, computed from a model and counted as it is sent."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.model import MMDistributedDataParallel
from mmengine.optim import OptimWrapper
from torch.testing._internal.distributed.fake_pg import FakeStore

from tests.configs.helpers import REPOSITORY
from tests.pretrain.tiny import METHODS, random_views, tiny_method
from tools.benchmarks.__main__ import main
from tools.benchmarks.traffic import (
    Exchange,
    config_exchanges,
    counted_collectives,
    exchanges,
    waiting,
)

BATCH = 4


@pytest.fixture(params=[2, 8])
def processes(request: pytest.FixtureRequest) -> Iterator[int]:
    """A group whose other processes do not exist: collectives leave tensors as they are."""
    dist.init_process_group('fake', store=FakeStore(), rank=0, world_size=request.param)
    yield request.param
    dist.destroy_process_group()


@pytest.mark.parametrize('name', METHODS)
def test_what_is_counted_is_what_is_computed(name: str, processes: int) -> None:
    changes = dict(bank_size=BATCH * 8) if name == 'MACRLPretrain' else {}
    model = tiny_method(name, **changes)
    wrapped = MMDistributedDataParallel(model, broadcast_buffers=False)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.0)
    with counted_collectives(wrapped) as counted:
        wrapped.train_step(random_views(model, BATCH), OptimWrapper(optimizer))
    computed: Counter[str] = Counter()
    for each in exchanges(model, BATCH, processes):
        computed[each.collective] += each.size
    assert counted == computed
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    assert counted['all_reduce'] >= 4 * trained > 0
    assert ('all_gather' in counted) == (name in ('CANPretrain', 'MACRLPretrain'))


def test_released_recipe() -> None:
    cfg = Config.fromfile(REPOSITORY / 'configs/pretrain/moca_v1p0.py')
    found = {each.what: each for each in config_exchanges(cfg, 256, 64)}
    assert set(found) == {'gradients', 'codebook'}
    assert found['codebook'].size == 4 * (2 + 4 * 768 + 4096)
    # a ViT-B has 85.8 million parameters; two blocks of 512 and the generators come to it
    assert 85.8e6 < found['gradients'].size / 4 < 1.2 * 85.8e6


def test_estimate() -> None:
    gradients = Exchange('gradients', 'all_reduce', 10**9, 10, hidden=True)
    # 2 x 7/8 GB at 100 Gb/s take 140 ms, and ten times six hops of 10 us 0.6 ms
    assert gradients.sent(8) == 1.75e9
    assert waiting([gradients], 8, 100, seconds=0.0) == pytest.approx(0.1406)
    assert waiting([gradients], 8, 100, seconds=0.2) == pytest.approx(0.0406)
    assert waiting([gradients], 8, 100, seconds=9.0) == pytest.approx(0.01406), 'the last bucket'
    keys = Exchange('keys', 'all_gather', 10**9, 1)
    assert keys.sent(4) == 0.75e9
    assert waiting([keys], 4, 100, seconds=9.0) == pytest.approx(0.06004)


def test_command(capsys: pytest.CaptureFixture[str]) -> None:
    config = str(REPOSITORY / 'configs/pretrain/can_tiny-imagenet.py')
    main(['traffic', config, '--gpus', '8', '512', '--seconds', '0.1'])
    said = capsys.readouterr().out
    for word in ('gradients', 'batch norm', 'embeddings', 'all_to_all', '400 Gb/s', 'estimate'):
        assert word in said
