"""Layer-wise learning-rate decay which asks the backbone how deep each parameter lies."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from mmengine.logging import print_log
from mmengine.optim import OptimWrapper
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, OPTIM_WRAPPERS, OPTIMIZERS
from rich.console import Console
from rich.table import Table

from moca.engine.wrapped import unwrapped
from moca.errors import UserError


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class LayerDepthOptimWrapperConstructor:
    """Builds an optimizer with one parameter group per (layer, weight decay).

    A parameter of layer `l` out of `L` (stem 0, block i at i + 1, everything after the blocks and
    outside the backbone L - 1) learns at ``lr * layer_decay ** (L - 1 - l)``: the rule of BEiT,
    MAE, iBOT and ViTDet. mmseg's constructor of this rule knows backbones by the name of their
    class; this one calls ``get_layer_depth(name, prefix)`` of the backbone, whatever its name.

    Args:
        optim_wrapper_cfg: config of the `OptimWrapper` with its ``optimizer``.
        paramwise_cfg: a dict of

            - ``layer_decay`` (float): the rate in (0, 1]; 1 gives every layer the same lr;
            - ``head_lr_mult`` (float): what lies outside of the backbone learns at ``lr`` times
              this, as mmseg's ``custom_keys={'head': dict(lr_mult=...)}`` do. Default 1, as in all
              of the above;
            - ``flat_decay`` (bool): whether biases and other parameters of at most one dimension
              get weight decay. Default False, as in all of the above;
            - ``bias_decay`` (bool): whether biases get weight decay, those of norms left out.
              Default False; True in detectron2, and so in ViTDet;
            - ``decayed_norms`` (sequence of str): classes of norms whose weights and biases get
              weight decay all the same. Default none; ``['LayerNorm2d']`` in ViTDet, since
              detectron2 does not count its own class, of pyramid and heads, among the norms;
            - ``no_decay_names`` (sequence of str): last parts of parameter names without weight
              decay, e.g. ``['pos_embed', 'cls_token']``. Default none, because the code of BEiT,
              MAE and iBOT *means* to exclude them but compares unprefixed names, and so the
              published segmentation numbers were made with decay; ViTDet excludes ``pos_embed``.

    Raises:
        UserError: if an option is unknown or out of range.
    """

    paramwise_keys: tuple[str, ...] = (
        'layer_decay',
        'head_lr_mult',
        'flat_decay',
        'bias_decay',
        'decayed_norms',
        'no_decay_names',
    )

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        options = dict(paramwise_cfg or {})
        unknown = set(options) - set(self.paramwise_keys)
        if unknown:
            raise UserError(
                f'optim_wrapper.paramwise_cfg: unknown {sorted(unknown)}; '
                f'{type(self).__name__} knows {list(self.paramwise_keys)}.'
            )
        self.layer_decay = float(options.get('layer_decay', 1.0))
        if not 0 < self.layer_decay <= 1:
            raise UserError(
                f'optim_wrapper.paramwise_cfg.layer_decay={self.layer_decay} is not in (0, 1].'
            )
        self.head_lr_mult = float(options.get('head_lr_mult', 1.0))
        if not 0 < self.head_lr_mult < math.inf:
            raise UserError(
                f'optim_wrapper.paramwise_cfg.head_lr_mult={self.head_lr_mult}: give a number '
                'above 0.'
            )
        self.flat_decay = bool(options.get('flat_decay', False))
        self.bias_decay = bool(options.get('bias_decay', False))
        self.decayed_norms: Sequence[str] = tuple(options.get('decayed_norms', ()))
        self.no_decay_names: Sequence[str] = tuple(options.get('no_decay_names', ()))
        self.optim_wrapper_cfg = dict(optim_wrapper_cfg)
        self.optimizer_cfg = dict(self.optim_wrapper_cfg.pop('optimizer'))

    def __call__(self, model: Any) -> OptimWrapper:
        """Build the optimizer of a model, which may be wrapped for distributed training.

        Raises:
            UserError: if no part of the model has ``get_layer_depth``, or all of it is frozen.
        """
        groups = self.parameter_groups(unwrapped(model))
        print_log('Parameter groups\n' + format_groups(groups), logger='current')
        optimizer = OPTIMIZERS.build(
            {**self.optimizer_cfg, 'params': [dict(group) for group in groups]}
        )
        return OPTIM_WRAPPERS.build(
            {'type': 'OptimWrapper', **self.optim_wrapper_cfg},
            default_args={'optimizer': optimizer},
        )

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """Return torch parameter groups, stem first, without frozen parameters."""
        backbones = {
            f'{name}.' if name else '': module
            for name, module in model.named_modules()
            if hasattr(module, 'get_layer_depth')
        }
        if not backbones:
            raise UserError(
                f'optim_wrapper.constructor: no part of {type(model).__name__} has '
                "get_layer_depth(); layer decay needs a backbone such as type='PlainViT'."
            )
        lr = self.optimizer_cfg['lr']
        weight_decay = self.optimizer_cfg.get('weight_decay', 0.0)
        groups: dict[tuple[int, float, float], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            layer, num_layers = _layer_depth(name, backbones)
            owner, _, last = name.rpartition('.')
            decays = self.flat_decay or (parameter.ndim > 1 and last != 'bias')
            if last == 'bias' and self.bias_decay:
                weight = getattr(model.get_submodule(owner), 'weight', None)
                decays = weight is not None and weight.ndim > 1  # one of norms has one dimension
            if type(model.get_submodule(owner)).__name__ in self.decayed_norms:
                decays = True
            decays = decays and last not in self.no_decay_names
            multiple = 1.0 if name.startswith(tuple(backbones)) else self.head_lr_mult
            key = (layer, multiple, weight_decay if decays else 0.0)
            group = groups.setdefault(
                key,
                {
                    'params': [],
                    'param_names': [],
                    'layer': layer,
                    'lr': lr * multiple * self.layer_decay ** (num_layers - 1 - layer),
                    'weight_decay': key[2],
                },
            )
            group['params'].append(parameter)
            group['param_names'].append(name)
        if not groups:
            raise UserError('optim_wrapper: every parameter of the model is frozen.')
        return [groups[key] for key in sorted(groups)]


def format_groups(groups: Sequence[dict[str, Any]]) -> str:
    """Return a table of parameter groups: layer, learning rate, weight decay, parameters."""
    table = Table('layer', 'lr', 'weight decay', 'tensors', 'parameters')
    for group in groups:
        count = sum(parameter.numel() for parameter in group['params'])
        table.add_row(
            str(group['layer']),
            f'{group["lr"]:.3e}',
            f'{group["weight_decay"]:g}',
            str(len(group['params'])),
            f'{count:,}',
        )
    console = Console(width=80, color_system=None)
    with console.capture() as capture:
        console.print(table)
    return capture.get()


def _layer_depth(name: str, backbones: dict[str, Any]) -> tuple[int, int]:
    """Ask the backbone that owns a parameter; what is outside of all of them is the last layer."""
    for prefix, backbone in backbones.items():
        if name.startswith(prefix):
            return backbone.get_layer_depth(name, prefix)
    prefix, backbone = next(iter(backbones.items()))
    num_layers = backbone.num_layers + 2
    return num_layers - 1, num_layers
