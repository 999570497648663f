"""torch.compile for the part of a model that repeats: the transformer blocks."""

from __future__ import annotations

import importlib.util
import os
import shutil
from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from timm.models.vision_transformer import Block
from torch import nn

from moca.errors import UserError


def compile_blocks(model: nn.Module) -> int:
    """Compile every transformer block of a model in place; returns how many.

    Block by block, since they are where the time goes and all alike: one graph for each number of
    tokens, made within a minute. Shapes are fixed (MOCA has five in training), for which kernels
    are faster than for any. The names of the weights stay as they are.

    What a model names in ``compile_losses()`` is compiled with them.
    """
    blocks = [module for module in model.modules() if isinstance(module, Block)]
    for block in blocks:
        block.compile(dynamic=False)
    for module in model.modules():
        compile_losses: Any = getattr(module, 'compile_losses', None)
        if compile_losses is not None:
            compile_losses()
    return len(blocks)


def can_compile() -> bool:
    """Whether to compile where nothing is said: on GPUs for which torch can write kernels."""
    if not torch.cuda.is_available() or importlib.util.find_spec('triton') is None:
        return False
    from torch.utils._triton import has_triton  # asks the card as well

    # triton compiles its launcher in C
    compiler = os.environ.get('CC') or shutil.which('gcc') or shutil.which('clang')
    return bool(compiler) and has_triton()


@HOOKS.register_module()
class CompileBlocks(Hook):
    """`compile_blocks` before training."""

    def before_train(self, runner: Any) -> None:
        """Compile in place.

        Raises:
            UserError: There is no C++ compiler, which torch.compile needs on a CPU.
        """
        compiler = os.environ.get('CXX') or 'g++'
        if not torch.cuda.is_available() and shutil.which(compiler) is None:
            raise UserError(
                f'--compile: torch.compile needs a C++ compiler on a CPU: there is no {compiler}. '
                'Install one (Debian: g++), name it in the variable CXX, or leave --compile out.'
            )
        count = compile_blocks(runner.model)
        runner.logger.info(f'{count} blocks will be compiled; the first steps are slow.')
