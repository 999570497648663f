"""Parameter groups of pre-training."""

from __future__ import annotations

from typing import Any

from mmengine.optim import OptimWrapper
from mmengine.registry import (
    OPTIM_WRAPPER_CONSTRUCTORS,
    OPTIM_WRAPPERS,
    OPTIMIZERS,
)
from torch import nn

from moca.errors import UserError


def parameter_groups(
    model: nn.Module, weight_decay: float, constant_lr: dict[str, float]
) -> list[dict[str, Any]]:
    """Split trainable parameters by weight decay and by learning-rate schedule.

    No decay for ``ndim <= 1`` or names that end in ``.bias``; class and mask tokens *are* decayed
    (released MOCA code).

    Args:
        model: The method.
        weight_decay: Of the decayed groups.
        constant_lr: Name fragment to learning rate, for parameters whose rate the schedule
            leaves alone.

    Returns:
        Groups with ``name``, ``params``, ``weight_decay``, ``constant`` and, if constant, ``lr``.
    """
    groups: dict[tuple[str, bool], dict[str, Any]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        decay = parameter.ndim > 1 and not name.endswith('.bias')
        fragment = next((part for part in constant_lr if part in name), '')
        group = groups.setdefault(
            (fragment, decay),
            dict(
                name=f'{fragment or "main"}, {"decayed" if decay else "not decayed"}',
                params=[],
                weight_decay=weight_decay if decay else 0.0,
                constant=bool(fragment),
                **(dict(lr=constant_lr[fragment]) if fragment else {}),
            ),
        )
        group['params'].append(parameter)
    for fragment in constant_lr:
        if not any(key[0] == fragment for key in groups):
            raise UserError(
                f'optim_wrapper.paramwise_cfg.constant_lr: no trainable parameter has '
                f'{fragment!r} in its name.'
            )
    return list(groups.values())


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class PretrainOptimWrapperConstructor:
    """Build the optimizer over :func:`parameter_groups`.

    Args:
        optim_wrapper_cfg: As in mmengine; ``optimizer`` must name a ``weight_decay``.
        paramwise_cfg: ``dict(constant_lr={name fragment: learning rate})``.
    """

    # what the config check lets `paramwise_cfg` hold
    paramwise_keys = ('constant_lr',)

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        self.wrapper = dict(optim_wrapper_cfg)
        self.optimizer = dict(self.wrapper.pop('optimizer'))
        self.constant_lr = dict((paramwise_cfg or {}).get('constant_lr', {}))

    def __call__(self, model: nn.Module) -> OptimWrapper:
        """Build the wrapper for ``model``, wrapped in DDP or not."""
        model = getattr(model, 'module', model)
        groups = parameter_groups(model, self.optimizer['weight_decay'], self.constant_lr)
        optimizer = OPTIMIZERS.build({**self.optimizer, 'params': groups})
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.wrapper, 'optimizer': optimizer}
        )
