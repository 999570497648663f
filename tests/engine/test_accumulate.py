"""A step on a batch in parts is the step on the batch, also across a resume."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from mmengine.config import Config
from mmengine.model import BaseModel
from mmengine.registry import DATASETS, MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from torch.utils.data import Dataset

from moca.engine import accumulate, watch
from moca.engine.accumulate import set_accumulation
from moca.errors import UserError


@MODELS.register_module()
class _Regression(BaseModel):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(3, 1)
        nn.init.constant_(self.line.weight, 0.1)
        nn.init.zeros_(self.line.bias)

    def forward(self, inputs: Tensor, target: Tensor, mode: str) -> dict[str, Tensor]:
        return dict(loss=(self.line(inputs).squeeze(1) - target).square().mean())


@DATASETS.register_module()
class _Points(Dataset):
    def __len__(self) -> int:
        return 40

    def __getitem__(self, index: int) -> dict[str, Any]:
        generator = torch.Generator().manual_seed(index)
        return dict(inputs=torch.randn(3, generator=generator), target=float(index % 7))


def config(folder: Path, batch: int, steps: int = 6, resume: bool = False) -> Config:
    hook = dict(type='AtomicCheckpointHook', by_epoch=False, interval=2, max_keep_ckpts=-1)
    return Config(
        dict(
            model=dict(type='_Regression'),
            work_dir=str(folder),
            train_dataloader=dict(
                batch_size=batch,
                num_workers=0,
                sampler=dict(type='InfiniteSampler', shuffle=True, seed=3),
                collate_fn=dict(type='default_collate'),
                dataset=dict(type='_Points'),
            ),
            train_cfg=dict(type='IterBasedTrainLoop', max_iters=steps),
            optim_wrapper=dict(type='OptimWrapper', optimizer=dict(type='AdamW', lr=0.1)),
            param_scheduler=dict(type='PolyLR', by_epoch=False, end=6),
            auto_scale_lr=dict(base_batch_size=8),
            default_hooks=dict(checkpoint=hook, runtime_info=dict(type='WatchTraining')),
            default_scope='mmengine',
            load_from=str(folder / 'iter_4.pth') if resume else None,
            resume=resume,
            experiment_name=f'{folder.name}{batch}{steps}{resume}',
        )
    )


def train(cfg: Config) -> Runner:
    runner = Runner.from_cfg(cfg)
    runner.train()
    return runner


@pytest.mark.parametrize('count', [2, 4, 8])
def test_parts_of_a_batch_give_the_steps_of_the_whole(tmp_path: Path, count: int) -> None:
    whole = train(config(tmp_path / 'whole', 8))
    cfg = config(tmp_path / 'parts', 8 // count)
    set_accumulation(cfg, 'auto')
    assert cfg.optim_wrapper.accumulative_counts == count
    parts = train(cfg)
    assert parts.iter == whole.iter == 6
    for ours, expected in zip(parts.model.parameters(), whole.model.parameters(), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-7)
    start = MODELS.build(dict(type='_Regression'))
    assert not torch.allclose(parts.model.line.weight, start.line.weight, atol=1e-2)


def test_a_resumed_run_goes_on_with_the_next_images(tmp_path: Path) -> None:
    def accumulating(folder: Path, resume: bool = False, steps: int = 6) -> Config:
        cfg = config(folder, 2, steps, resume)
        set_accumulation(cfg, '4')
        return cfg

    whole = train(accumulating(tmp_path / 'whole'))
    train(accumulating(tmp_path / 'cut', steps=4))
    resumed = train(accumulating(tmp_path / 'cut', resume=True))
    assert torch.equal(resumed.model.line.weight, whole.model.line.weight)


@pytest.mark.parametrize(('batch', 'processes'), [(8, 1), (4, 1), (4, 2)])
def test_a_run_that_is_resumed_with_other_steps_says_so(
    batch: int, processes: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train(config(tmp_path, 8, steps=4))
    for module in (watch, accumulate):
        monkeypatch.setattr(module, 'get_world_size', lambda: processes)
    monkeypatch.setattr(watch, 'all_gather_object', lambda names: [names])
    monkeypatch.setattr(watch, 'all_reduce', lambda _: None)
    train(config(tmp_path, batch, resume=True))
    text = ''.join(log.read_text() for log in tmp_path.glob('*/*.log'))
    said = f'8 images on 1 process were a step, and {batch * processes} on {processes} are one now'
    assert (said in text) == (batch != 8)
    assert text.count('are one now') == (batch != 8)


def test_what_cannot_be_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r'batch of 8 is no multiple of 3 .*batch_size=2'):
        set_accumulation(config(tmp_path, 3), 'auto')
    with pytest.raises(UserError, match=r'batch of 8 is no multiple of 16'):
        set_accumulation(config(tmp_path, 16), 'auto')
    with pytest.raises(UserError, match='give auto or a whole number'):
        set_accumulation(config(tmp_path, 2), 'two')
    unknown = config(tmp_path, 2)
    unknown.pop('auto_scale_lr')
    with pytest.raises(UserError, match='does not name the batch'):
        set_accumulation(unknown, 'auto')


def test_processes_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('WORLD_SIZE', '2')
    cfg = config(tmp_path, 2)
    cfg.launcher = 'pytorch'
    set_accumulation(cfg, 'auto')
    assert cfg.optim_wrapper.accumulative_counts == 2
