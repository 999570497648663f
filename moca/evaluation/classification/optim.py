"""Optimizers of heads: a group of parameters for each head, and LARS by timm."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from timm.optim import Lars

from moca.engine.wrapped import unwrapped
from moca.errors import UserError

OPTIMIZERS.register_module('Lars', module=Lars)


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class HeadOptimWrapperConstructor:
    """Builds an optimizer of the groups that a model's head asks for by ``parameter_groups``.

    What an optimizer has no use for is left out of a group: ``always_adapt`` is LARS's.

    Args:
        optim_wrapper_cfg: Config of the `OptimWrapper` with its ``optimizer``, whose ``lr`` is
            that of 256 images.
        paramwise_cfg: Not used.

    Raises:
        UserError: Loss scaling is asked for with several heads: one that overflows would stop all.
    """

    paramwise_keys = ()

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.optim_wrapper_cfg.pop('optimizer'))

    def __call__(self, model: Any) -> OptimWrapper:
        """Build the optimizer of a classifier, which may be wrapped for distributed training."""
        head = unwrapped(model).head
        groups = head.parameter_groups(self.optimizer_cfg['lr'])
        if len(getattr(head, 'rates', ())) > 1 and self.optim_wrapper_cfg.get('dtype') == 'float16':
            raise UserError(
                'optim_wrapper.dtype=float16: its loss scale is common to all heads, and one that '
                'overflows would stop the others. Leave --amp out.'
            )
        if self.optimizer_cfg['type'] != 'Lars':
            groups = [{k: v for k, v in g.items() if k != 'always_adapt'} for g in groups]
        optimizer = OPTIMIZERS.build({**self.optimizer_cfg, 'params': groups})
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg},
            default_args={'optimizer': optimizer},
        )
