"""Gradients that travel between processes as bfloat16, in half of the bytes."""

from __future__ import annotations

from typing import Any

from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch.distributed.algorithms.ddp_comm_hooks.default_hooks import bf16_compress_hook
from torch.nn.parallel import DistributedDataParallel

from moca.engine.distributed import launched_processes
from moca.engine.hooks import set_hook
from moca.errors import UserError

OPTION = '--bf16-gradients'


def set_bf16_gradients(cfg: Config, launcher: str) -> None:
    """Apply ``--bf16-gradients`` to a config; of one process it says that nothing changes.

    Args:
        cfg: Of the run, with its options; changed.
        launcher: Of ``moca.command_line.LAUNCHERS``.

    Raises:
        UserError: Parameters are sharded.
    """
    if launched_processes(launcher) == 1:
        print_log(f'{OPTION}: one process sends no gradients; nothing changes.', 'current')
        return
    if cfg.get('strategy'):
        raise UserError(
            f'{OPTION}: sharded parameters send their gradients in another way. Keep them whole '
            f'with --cfg-options strategy=None, or leave {OPTION} out.'
        )
    set_hook(cfg, 'bf16_gradients', type='Bf16Gradients')


@HOOKS.register_module()
class Bf16Gradients(Hook):
    """Has the processes of a run average their gradients in bfloat16, by torch's own hook for DDP.

    Each process rounds its gradients and divides them by the number of processes, and sums are
    rounded as well. The optimizer gets them back as fp32; what a step sends beside them stays as it
    is. Parts of an accumulated batch are added up in fp32 and sent once.

    Raises:
        UserError: The model is in no ``DistributedDataParallel``.
    """

    def before_train(self, runner: Any) -> None:
        """Register torch's hook."""
        if not isinstance(runner.model, DistributedDataParallel):
            raise UserError(
                f'{OPTION}: the model is in a {type(runner.model).__name__}, which sends its '
                'gradients in another way than DistributedDataParallel (model_wrapper_cfg). Leave '
                f'{OPTION} out.'
            )
        runner.model.register_comm_hook(None, bf16_compress_hook)
        runner.logger.info(f'{OPTION}: gradients travel as bfloat16, in half of the bytes.')
