"""How fast a pre-training step is and what it needs, beside a straightforward version of it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from mmengine.config import Config
from mmengine.optim import OptimWrapper
from mmengine.registry import MODELS
from torch import Tensor

from moca.backbone import vit_dimensions
from moca.backbone.compile import compile_blocks
from moca.engine.memory import keep_freed_memory
from moca.errors import UserError
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.moca.plain import PlainMOCA
from moca.pretrain.training.optim import parameter_groups
from tools.benchmarks.kl import DenseKL, measure_dense_kl
from tools.benchmarks.measure import peak_flops, step_flops
from tools.benchmarks.plain_step import PlainStep
from tools.benchmarks.table import OURS, Table, measure_versions, training_wrapper

PLAIN = 'straightforward'
DTYPES = ('float32', 'bfloat16', 'float16')


@dataclass(frozen=True)
class Benchmark(Table):
    """What :func:`measure_step` found: ours, and for MOCA the straightforward version.

    Attributes:
        peak: FLOP/s of the device for matrix products; None where it is unknown.
        dense_kl: The dense loss alone, for MOCA.
    """

    peak: float | None
    dense_kl: DenseKL | None

    def __str__(self) -> str:
        columns = ('images/s', 's/step', 'peak MiB', 'GFLOP', 'GFLOP/s', 'of peak')
        rows = [self.title, f'{"":16}' + ''.join(f'{column:>10}' for column in columns)]
        for name, figures in self.versions.items():
            rate = figures.flops / figures.median
            share = f'{rate / self.peak:.1%}' if self.peak else 'unknown'
            rows.append(
                f'{name:16}{self.batch / figures.median:10.2f}{figures.median:10.3f}'
                f'{figures.bytes / 2**20:10.1f}{figures.flops / 1e9:10.1f}'
                f'{rate / 1e9:10.1f}{share:>10}'
            )
        if PLAIN in self.versions:
            ratios = f'{self.speedup(PLAIN):10.3f}{"":10}{self.memory_ratio(PLAIN):10.3f}'
            rows.append(f'{"ratio":16}{ratios}')
        if self.dense_kl:
            rows.append(str(self.dense_kl))
        return '\n'.join(rows)


def measure_step(
    cfg: Config,
    batch: int,
    steps: int,
    dtype: str,
    device: torch.device,
    compiled: bool = False,
) -> Benchmark:
    """Time steps of a config's method on random images, and count what they need.

    For MOCA a straightforward version of the same step takes turns with ours, so that a busy
    machine hits both, from the same weights and on the same draws. Making views is not measured.

    Args:
        cfg: Of a pre-training; changed.
        batch: Images a step; each has as many views as the config says.
        steps: How many to time of each version, after one that is not.
        dtype: One of :data:`DTYPES`; the latter two by autocast.
        device: Where to run.
        compiled: Whether ours goes through torch.compile, as a run on a GPU does.

    Raises:
        UserError: A number is not positive, or the config is no pre-training.
    """
    for name, number in (('--batch-size', batch), ('--steps', steps)):
        if number < 1:
            raise UserError(f'{name} is {number}; it must be 1 or more.')
    size, count = _size_and_number_of_views(cfg)
    if device.type == 'cpu':
        keep_freed_memory()  # as in every run of the tools; both versions gain
    model, wrapper = build_method(cfg, dtype, device)
    views = [torch.randn(batch, 3, size, size, device=device) for _ in range(count)]
    calls: dict[str, Callable[[int], object]] = {OURS: _ours(model, wrapper, views)}
    autocast = getattr(torch, dtype)
    if isinstance(model, MOCAPretrain):
        calls[PLAIN] = _straightforward(cfg, model, views, autocast)
    flops = {name: step_flops(call) for name, call in calls.items()}
    if compiled:  # now: nothing counts the operations of compiled kernels
        compile_blocks(model)
    peaks = [peak_flops(device, autocast)]
    versions = measure_versions(calls, steps, device)
    peaks.append(peak_flops(device, autocast))  # the better one: the machine may be busy
    peak = max(filter(None, peaks), default=None)
    versions = {name: replace(v, flops=flops[name]) for name, v in versions.items()}
    kl = None
    if isinstance(model, MOCAPretrain):
        kl = measure_dense_kl(model, batch, steps, autocast, device)
    title = (
        f'{type(model).__name__}, {cfg.model.backbone.arch}, {dtype}'
        f'{", compiled" * compiled}; a step takes {batch} '
        f'images of {count} views, {size} px\n'
        f'{_name(device)}, peak of matrix products '
        + (f'{peak / 1e9:.0f} GFLOP/s' if peak else 'unknown')
        + f'; {steps} steps of each version, in turn; medians'
    )
    return Benchmark(title, batch, versions, peak, kl)


def _size_and_number_of_views(cfg: Config) -> tuple[int, int]:
    views = cfg.get('train_dataloader', {}).get('dataset', {}).get('views')
    if views is None or 'optim_wrapper' not in cfg:
        raise UserError(
            f'{cfg.filename}: no pre-training (train_dataloader.dataset.views is missing). '
            'Choose a config of configs/pretrain.'
        )
    return views.size, len(views.views)


def build_method(cfg: Config, dtype: str, device: torch.device) -> tuple[Any, OptimWrapper]:
    """The method and its optimizer, as a run has them after their first weights are made."""
    vit_dimensions(cfg.model.backbone.arch)  # an unknown name is an error here and now
    # random ones cost as much, and need no file
    cfg.model.backbone.pop('init_cfg', None)
    for teacher in cfg.model.get('teachers', {}).values():
        teacher.checkpoint = None
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    model.init_weights()
    model = model.to(device).train()
    if hasattr(model, 'momentum'):
        model.momentum = 0.99
    return model, training_wrapper(model, cfg, dtype, device)


def _ours(model: Any, wrapper: OptimWrapper, views: list[Tensor]) -> Callable[[int], object]:
    batch = {f'view{number}': view for number, view in enumerate(views, start=1)}

    def step(number: int) -> object:
        model.step = number
        return model.train_step(batch, wrapper)

    return step


def _straightforward(
    cfg: Config, model: MOCAPretrain, views: list[Tensor], dtype: torch.dtype
) -> Callable[[int], object]:
    settings = dict(cfg.optim_wrapper.optimizer)
    for name in ('type', 'fused', 'foreach'):
        settings.pop(name, None)
    plain = PlainMOCA(model)
    groups = parameter_groups(
        plain, settings['weight_decay'], cfg.optim_wrapper.get('paramwise_cfg', {})['constant_lr']
    )
    max_norm = (cfg.optim_wrapper.get('clip_grad') or {}).get('max_norm')
    take_step = PlainStep(plain, groups, settings, max_norm, dtype)

    def step(number: int) -> object:
        model.step = number
        view1, view2 = views
        return take_step(view1, view2, model.draw(len(view1), view1.device))

    return step


def _name(device: torch.device) -> str:
    if device.type == 'cuda':
        return torch.cuda.get_device_name(device)
    return f'{device}, {torch.get_num_threads()} threads'
