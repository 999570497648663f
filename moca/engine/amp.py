"""Mixed precision which runs on a CPU as well: bfloat16 anywhere, float16 with loss scaling."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import HOOKS, OPTIM_WRAPPERS
from torch import Tensor, nn

from moca.engine.hooks import set_hook
from moca.errors import UserError

DTYPES = {'bfloat16': torch.bfloat16, 'float16': torch.float16}


@OPTIM_WRAPPERS.register_module()
class AutocastOptimWrapper(OptimWrapper):
    """An `OptimWrapper` whose training step runs under `torch.autocast`.

    mmengine's ``AmpOptimWrapper`` asserts a GPU. This one serves every device, and scales the loss
    only where it is needed (float16); parameters, gradients and optimizer state stay fp32.

    Args:
        dtype: ``'bfloat16'`` or ``'float16'``.
        init_scale: first loss scale of float16, as in `torch.amp.GradScaler`.
        kwargs: arguments of `OptimWrapper` (``optimizer``, ``accumulative_counts``, ``clip_grad``).

    Raises:
        UserError: if `dtype` is neither.
    """

    def __init__(self, dtype: str = 'bfloat16', init_scale: float = 65536.0, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        if dtype not in DTYPES:
            raise UserError(f'AutocastOptimWrapper: dtype={dtype!r} is none of {list(DTYPES)}.')
        self.device_type = get_device()
        self.dtype = DTYPES[dtype]
        # A disabled scaler passes everything through, so that both types share one path.
        self.scaler = torch.amp.GradScaler(
            self.device_type, init_scale=init_scale, enabled=self.dtype is torch.float16
        )

    def backward(self, loss: Tensor, **kwargs: Any) -> None:
        """Back-propagate the scaled loss."""
        self.scaler.scale(loss).backward(**kwargs)
        self._inner_count += 1

    def step(self, **kwargs: Any) -> None:
        """Clip the unscaled gradients if asked to, then step unless they are not finite."""
        if self.clip_grad_kwargs:
            self.scaler.unscale_(self.optimizer)
            self._clip_grad()
        self.scaler.step(self.optimizer, **kwargs)
        self.scaler.update()

    @contextmanager
    def optim_context(self, model: nn.Module) -> Iterator[None]:
        """Autocast, without gradient synchronization in all but the last accumulated batch."""
        with super().optim_context(model), torch.autocast(self.device_type, self.dtype):
            yield

    def state_dict(self) -> dict[str, Any]:
        """Return the optimizer's state and, for float16, the loss scale."""
        state = super().state_dict()
        if self.scaler.is_enabled():
            state['loss_scaler'] = self.scaler.state_dict()
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state of this class or of a plain `OptimWrapper`."""
        state_dict = dict(state_dict)
        scale = state_dict.pop('loss_scaler', None)
        if scale and self.scaler.is_enabled():
            self.scaler.load_state_dict(scale)
        super().load_state_dict(state_dict)


@HOOKS.register_module()
class AutocastDtypeHook(Hook):
    """Set the type which mmengine's ``fp16=True`` validation and test loops autocast to.

    Those loops take torch's default, float16 on CUDA, and have no argument for another one.
    """

    def __init__(self, dtype: str = 'bfloat16') -> None:
        self.dtype = DTYPES[dtype]

    def before_run(self, runner: Any) -> None:
        """Change torch's default for the length of the run."""
        device = get_device()
        self._before = torch.get_autocast_dtype(device)
        torch.set_autocast_dtype(device, self.dtype)

    def after_run(self, runner: Any) -> None:
        """Put torch's default back."""
        torch.set_autocast_dtype(get_device(), self._before)


def preferred_dtype() -> str:
    """Return ``'bfloat16'`` on CPUs and on GPUs that have it in hardware, else ``'float16'``."""
    if torch.cuda.is_available() and not torch.cuda.is_bf16_supported(including_emulation=False):
        return 'float16'
    return 'bfloat16'


def gpu_has_bfloat16() -> bool:
    """Whether mixed precision is the sensible default here."""
    return torch.cuda.is_available() and preferred_dtype() == 'bfloat16'


def fast_bfloat16() -> bool:
    """Whether bfloat16 is worth having here: on a CPU without AVX-512 it is only emulated.

    Matrix products then take many times as long as in fp32 (62 times for 2080 x 128 x 512, one
    thread of an AMD EPYC with AVX2).
    """
    if torch.cuda.is_available():
        return gpu_has_bfloat16()
    return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())


def enable_amp(cfg: Config) -> None:
    """Turn on mixed precision in a config's training, validation and test loops.

    A ``dtype`` which the config's `AutocastOptimWrapper` or `AmpOptimWrapper` names is kept.

    Raises:
        UserError: if the config's optimizer wrapper is of another class.
    """
    dtype = preferred_dtype()
    if not torch.cuda.is_available() and not fast_bfloat16():
        print_log(
            '--amp: this CPU only emulates bfloat16, which takes many times as long as fp32. Leave '
            '--amp out here.',
            'current',
            level=30,
        )
    wrapper = cfg.get('optim_wrapper')
    if wrapper is not None:
        name = wrapper.get('type', 'OptimWrapper')
        if name not in ('OptimWrapper', 'AmpOptimWrapper', 'AutocastOptimWrapper'):
            raise UserError(
                f'--amp: optim_wrapper.type={name!r} cannot be run in mixed precision. '
                "Use 'OptimWrapper' in the config, or leave --amp out."
            )
        dtype = wrapper.get('dtype') or dtype
        if name == 'AmpOptimWrapper':
            wrapper.pop('loss_scale', None)
        wrapper.type, wrapper.dtype = 'AutocastOptimWrapper', dtype
    loops = [cfg[name] for name in ('val_cfg', 'test_cfg') if cfg.get(name) is not None]
    for loop in loops:
        if loop.get('type') in (None, 'ValLoop', 'TestLoop'):
            loop.setdefault('fp16', True)  # a recipe may say False, as its source validates
    if loops:
        set_hook(cfg, 'autocast', type='AutocastDtypeHook', dtype=dtype)


@contextmanager
def tf32_under_autocast(device: torch.device) -> Iterator[None]:
    """No autocast, but where it was on, products of fp32 matrices may round their inputs to TF32.

    Sums and results stay fp32. On a CPU nothing is rounded; without autocast the user's own
    `torch.set_float32_matmul_precision` holds.
    """
    before = torch.get_float32_matmul_precision()
    if torch.is_autocast_enabled(device.type) and before == 'highest':
        torch.set_float32_matmul_precision('high')
    try:
        with torch.autocast(device.type, enabled=False):
            yield
    finally:
        torch.set_float32_matmul_precision(before)
