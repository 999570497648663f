"""The teacher's products in FP8, which nothing is differentiated by."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from torch import nn

from moca.backbone import PlainViT
from moca.engine.hooks import find_hook
from moca.engine.wrapped import unwrapped
from moca.errors import UserError
from moca.ops.float8 import Float8Linear, check_float8, fits_float8

OPTION = '--fp8-teacher'


def check_float8_teacher(cfg: Config) -> None:
    """Verify that a run which asks for `Float8Teacher` can have it.

    Raises:
        UserError: Its GPU has no FP8, it is not in mixed precision, or its parameters are sharded.
    """
    if find_hook(cfg, 'Float8Teacher') is None:
        return
    check_float8(OPTION)
    if cfg.optim_wrapper.get('type') not in ('AutocastOptimWrapper', 'AmpOptimWrapper'):
        raise UserError(f'{OPTION} is part of mixed precision: give --amp, or leave it out.')
    if cfg.get('strategy') and cfg.get('launcher', 'none') != 'none':
        raise UserError(
            f"{OPTION}: sharded parameters lie in no layer's own weight. Keep them whole with "
            '--cfg-options strategy=None, or leave it out.'
        )


@HOOKS.register_module()
class Float8Teacher(Hook):
    """Computes the linear layers of a method's teachers in FP8 while it trains.

    These are the layers of their transformer blocks; student, patch embedding and heads stay as
    they are. Between epochs, when k-NN and figures look at the teacher, it computes as any reader
    of its checkpoint will. Checkpoints have the same tensors with and without.

    Raises:
        UserError: The method has no teacher, or none of a size that can be.
    """

    def __init__(self) -> None:
        self._layers: list[Float8Linear] = []

    def check_teacher(self, method: Any) -> None:
        """Refuse a method without a teacher.

        Raises:
            UserError: Naming it.
        """
        if not teacher_blocks(method):
            raise UserError(
                f'{OPTION}: {type(method).__name__} has no teacher. Leave {OPTION} out.'
            )

    def before_train(self, runner: Any) -> None:
        """Put the layers in the place of plain ones."""
        method = unwrapped(runner.model)
        self.check_teacher(method)
        blocks = teacher_blocks(method)
        count = sum(isinstance(each, nn.Linear) for part in blocks for each in part.modules())
        self._layers = [layer for part in blocks for layer in swap_linears(part)]
        if not self._layers:
            raise UserError(
                f'{OPTION}: no linear layer of the teacher has inputs and outputs that are '
                f'multiples of 16, which FP8 takes. Leave {OPTION} out.'
            )
        rest = count - len(self._layers)
        runner.logger.info(
            f'{OPTION}: {len(self._layers)} linear layers of the teacher compute in FP8 in steps '
            'of training'
            + (f'; {rest} do not, whose sizes are no multiples of 16.' if rest else '.')
        )

    def before_train_epoch(self, runner: Any) -> None:
        """Switch them on."""
        self._switch(True)

    def after_train_epoch(self, runner: Any) -> None:
        """Switch them off, before anybody looks at the teacher."""
        self._switch(False)

    def _switch(self, on: bool) -> None:
        for layer in self._layers:
            layer.on = on


def teacher_blocks(method: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a method's encoders named ``teacher`` or in ``teachers``."""
    return [
        module.blocks
        for name, child in method.named_children()
        if name in ('teacher', 'teachers')
        for module in child.modules()
        if isinstance(module, PlainViT)
    ]


def swap_linears(model: nn.Module) -> list[Float8Linear]:
    """Put a `Float8Linear` in the place of each linear layer that can be one; returns them."""
    found = []
    for parent in list(model.modules()):
        for name, child in list(parent.named_children()):
            if fits_float8(child):
                assert isinstance(child, nn.Linear)
                layer = Float8Linear.of(child)
                setattr(parent, name, layer)
                found.append(layer)
    return found
