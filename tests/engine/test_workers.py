"""Workers of loaders: warnings with numbers, and the share of waiting."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest
from mmengine.config import Config
from mmengine.logging import HistoryBuffer, MessageHub
from torch.utils.data import DataLoader

from moca.engine import workers
from moca.engine.epoch_order import EpochShuffle
from moca.engine.workers import bottleneck_text, check_cpus, loader_share
from tests.engine.test_accumulate import config, train
from tests.engine.test_epoch_loop import EPOCHS, IMAGES, STEPS, build
from tests.images.photographs import save_photographs


@pytest.mark.parametrize(
    ('count', 'cpus', 'processes', 'said'),
    [
        (8, 2, 1, ['num_workers=8', 'share 2 CPUs', 'Ask for 9', 'num_workers=1.']),
        (10, 80, 8, ['each of 8 processes', 'Ask for 88', 'cpus-per-task=11', 'num_workers=9.']),
        (1, 1, 1, ['Ask for 2', 'num_workers=0.']),
        (10, 88, 8, []),
        (1, 2, 1, []),
        (0, 1, 4, []),
    ],
)
def test_fewer_cpus_than_workers(
    count: int, cpus: int, processes: int, said: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines: list[str] = []
    monkeypatch.setattr(workers, 'usable_cpus', lambda: cpus)
    monkeypatch.setattr(workers, 'print_log', lambda text, *_, **__: lines.append(text))
    check_cpus(Config(dict(train_dataloader=dict(num_workers=count))), processes)
    assert len(lines) == bool(said)
    for part in said:
        assert part in lines[0]


def test_torchs_own_warning_is_not_repeated(monkeypatch: pytest.MonkeyPatch) -> None:
    with warnings.catch_warnings(record=True) as caught:
        # and no other's, such as of a file that is collected meanwhile
        warnings.simplefilter('ignore')
        warnings.filterwarnings('always', 'This DataLoader will create')
        DataLoader([0], num_workers=4000)
        assert len(caught) == 1
        monkeypatch.setattr(workers, 'print_log', lambda *_, **__: None)
        check_cpus(Config({}))
        DataLoader([0], num_workers=4000)
        assert len(caught) == 1


def test_the_share_of_waiting() -> None:
    hub = MessageHub('waiting')
    assert loader_share(hub, 3) is None
    # of five steps that have ended, and a sixth that has been loaded for
    hub.log_scalars['train/time'] = HistoryBuffer([9.0, 1, 2, 3, 4], [1] * 5)
    hub.log_scalars['train/data_time'] = HistoryBuffer([9.0, 1, 1, 0, 1, 7], [1] * 6)
    assert loader_share(hub, 2) == pytest.approx(1 / 7)
    assert loader_share(hub, 3) == pytest.approx(2 / 9)
    assert loader_share(hub, 50) == pytest.approx(12 / 19)
    # the same where both keep as many values
    hub.log_scalars['train/data_time'] = HistoryBuffer([1.0, 1, 0, 1, 7], [1] * 5)
    assert loader_share(hub, 50) == pytest.approx(3 / 10)


def test_a_slow_loader_is_named_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = config(tmp_path, 8, steps=90)
    cfg.default_hooks.logger = dict(type='LoggerHook', interval=20, log_metric_by_epoch=False)
    cfg.default_hooks.checkpoint.interval = -1  # each would bring a look of its own
    monkeypatch.setattr('moca.engine.watch.loader_share', lambda *_: 0.43)
    train(cfg)
    (log,) = tmp_path.glob('*/*.log')
    text = log.read_text()
    assert text.count('Training waits for its data loader 43% of the time') == 1
    (scalars,) = tmp_path.glob('*/vis_data/scalars.json')
    assert '"waiting_for_data": 0.43' in scalars.read_text()


def test_little_waiting_is_not_mentioned() -> None:
    assert bottleneck_text(0.1, 4) is None
    assert '25%' in (bottleneck_text(0.25, 4) or '')


def test_an_iteration_goes_through_epochs_without_a_gap() -> None:
    sampler = EpochShuffle(range(23), seed=3)
    sampler.group = 5
    orders = []
    for epoch in (2, 3, 4):
        sampler.set_epoch(epoch)
        orders.append(list(sampler))
    sampler.set_epoch(2)
    sampler.skip(5)
    sampler.epochs = 3
    going = iter(sampler)
    sampler.set_epoch(9)  # as mmengine's hook does at the beginning of each
    assert list(going) == orders[0][5:] + orders[1] + orders[2]
    assert [len(order) for order in orders] == [20] * 3


def test_a_run_makes_one_iterator_of_its_loader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []
    make = DataLoader.__iter__
    monkeypatch.setattr(DataLoader, '__iter__', lambda self: made.append(1) or make(self))
    save_photographs(tmp_path / 'images', count=IMAGES)
    runner, _ = build(tmp_path / 'images', tmp_path / 'run', workers=1)
    runner.train()
    assert made == [1]
    assert (tmp_path / 'run' / f'iter_{STEPS * EPOCHS}.pth').exists()
