"""EoMT's optimization: its own rule of layer decay, and a schedule for each part of the network.

Source: tue-mps/eomt, training/lightning_module.py and two_stage_warmup_poly_schedule.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.optim.scheduler.lr_scheduler import LRSchedulerMixin
from mmengine.optim.scheduler.param_scheduler import _ParamScheduler
from mmengine.registry import OPTIM_WRAPPER_CONSTRUCTORS, PARAM_SCHEDULERS

from moca.engine.layer_decay import LayerDepthOptimWrapperConstructor
from moca.eomt.annealing import network_of
from moca.errors import UserError

BACKBONE, HEADS = 'backbone', 'heads'


@OPTIM_WRAPPER_CONSTRUCTORS.register_module()
class MaskTransformerOptimWrapperConstructor(LayerDepthOptimWrapperConstructor):
    """Builds the optimizer of a `MaskTransformer`, with weight decay on every parameter.

    Block i of N learns at ``lr * layer_decay ** (N - 1 - i)``, so the last one at ``lr`` itself;
    patch embedding, positions and prefix tokens as block 0; the final norm, the queries and the
    heads at ``lr``. (The rule of BEiT, that of `LayerDepthOptimWrapperConstructor`, gives each of
    them one factor more.) Each group says whether it is of the ``backbone`` or of the ``heads``,
    for `TwoPartPolyLR`.

    Args:
        optim_wrapper_cfg: config of the `OptimWrapper` with its ``optimizer``.
        paramwise_cfg: a dict of ``layer_decay``; ``decay_query_blocks`` (bool), whether the blocks
            that see queries decay as well (default True; False in the DINOv3 recipes on COCO, where
            they learn at ``lr``); ``backbone_lr_mult``, a factor of the whole backbone (default 1;
            the .1 of the DINOv3 recipe on ADE20K is never applied by the released code).

    Raises:
        UserError: an option is unknown or out of range.
    """

    paramwise_keys: tuple[str, ...] = ('layer_decay', 'decay_query_blocks', 'backbone_lr_mult')

    def __init__(
        self, optim_wrapper_cfg: dict[str, Any], paramwise_cfg: dict[str, Any] | None = None
    ) -> None:
        super().__init__(optim_wrapper_cfg, paramwise_cfg)
        options = paramwise_cfg or {}
        self.decay_query_blocks = bool(options.get('decay_query_blocks', True))
        self.backbone_lr_mult = float(options.get('backbone_lr_mult', 1.0))
        if self.backbone_lr_mult <= 0:
            raise UserError(
                f'optim_wrapper.paramwise_cfg.backbone_lr_mult={self.backbone_lr_mult}: give a '
                'number above 0, or model.backbone.frozen=True.'
            )

    def parameter_groups(self, model: Any) -> list[dict[str, Any]]:
        """Return torch parameter groups, stem first, without frozen parameters."""
        network = network_of(model)
        backbone = network.backbone
        names = {id(p): name for name, p in backbone.named_parameters()}
        lr, decay = self.optimizer_cfg['lr'], self.optimizer_cfg.get('weight_decay', 0.0)
        groups: dict[tuple[int, str], dict[str, Any]] = {}
        for name, parameter in model.named_parameters():
            if not parameter.requires_grad:
                continue
            own = names.get(id(parameter))
            layer, rate = backbone.num_layers + 1, lr
            if own is not None:
                layer, _ = backbone.get_layer_depth(own)
                rate = lr * self.backbone_lr_mult * self._share(network, layer)
            part = HEADS if own is None else BACKBONE
            about = dict(layer=layer, part=part, lr=rate, weight_decay=decay)
            group = groups.setdefault((layer, part), dict(params=[], param_names=[], **about))
            group['params'].append(parameter)
            group['param_names'].append(name)
        if not groups:
            raise UserError('optim_wrapper: every parameter of the model is frozen.')
        return [groups[key] for key in sorted(groups)]

    def _share(self, network: Any, layer: int) -> float:
        """Of the backbone's rate: layer 0 is the stem, i + 1 block i, N + 1 the final norm."""
        last = network.backbone.num_layers
        block = min(max(layer, 1), last)
        if not self.decay_query_blocks and block > last - network.num_blocks:
            return 1.0
        return self.layer_decay ** (last - block)


@PARAM_SCHEDULERS.register_module()
class TwoPartPolyLR(LRSchedulerMixin, _ParamScheduler):
    """Warm up the heads, then the backbone, and let both decay by a power.

    Of T steps the heads have ``t / w1`` of their rate for w1 steps, then
    ``(1 - (t - w1) / (T - w1)) ** power``; the backbone has 0 for w1 steps, a linear warm-up over
    w2, then the same power over what remains.

    Args:
        optimizer: whose groups have a ``part``; see `MaskTransformerOptimWrapperConstructor`.
        warmup: w1 and w2, in steps.
        power: .9 in the source.
        args, kwargs: of mmengine's schedulers; ``begin=0`` and ``end`` = T belong to it.

    Raises:
        UserError: the groups have no part.
    """

    def __init__(
        self,
        optimizer: Any,
        *args: Any,
        warmup: Sequence[int] = (500, 1000),
        power: float = 0.9,
        **kwargs: Any,
    ) -> None:
        self.warmup, self.power = tuple(warmup), power
        own = getattr(optimizer, 'optimizer', optimizer).param_groups
        # a wrapper has one more, of no parameter, whose rate is the one that is logged
        self.parts = [group.get('part', HEADS) for group in optimizer.param_groups]
        if not {group.get('part') for group in own} <= {BACKBONE, HEADS}:
            raise UserError(
                'param_scheduler TwoPartPolyLR: optim_wrapper.constructor has to be '
                'MaskTransformerOptimWrapperConstructor, whose groups say their part.'
            )
        super().__init__(optimizer, *args, **kwargs)

    def _get_value(self) -> list[float]:
        shares = {part: self.share(self.last_step, part) for part in (BACKBONE, HEADS)}
        return [
            rate * shares[part] for rate, part in zip(self.base_values, self.parts, strict=True)
        ]

    def share(self, step: int, part: str) -> float:
        """What a part has of its rate after so many steps."""
        first, second = self.warmup
        wait, rise = (0, first) if part == HEADS else (first, second)
        if step < wait:
            return 0.0
        if step < wait + rise:
            return (step - wait) / rise
        rest = self.end - self.begin - wait - rise
        return max(1.0 - (step - wait - rise) / rest, 0.0) ** self.power
