"""Stop a run whose loss is no longer a number."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS

from moca.errors import UserError


@HOOKS.register_module()
class StopOnNonFiniteLoss(Hook):
    """Stop a run whose loss is no longer a number; the last good checkpoint stays.

    Runs before the checkpoint hook, so no broken weights are saved.

    Raises:
        UserError: Naming the losses, the step, the learning rate and the first files.
    """

    # before checkpoints (VERY_LOW) and after the loss has been logged
    priority = 'LOW'

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: dict[str, Any] | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Look at the losses of the step."""
        assert outputs is not None
        broken = {
            name: float(value)
            for name, value in outputs.items()
            if not torch.isfinite(torch.as_tensor(value)).all()
        }
        if not broken:
            return
        rates = [group['lr'] for group in runner.optim_wrapper.param_groups]
        names = _pictures(runner, data_batch or {})
        files = f' The batch begins with {", ".join(names[:4])}.' if names else ''
        raise UserError(
            f'step {runner.iter + 1}: '
            + ', '.join(f'{name} is {value}' for name, value in broken.items())
            + f' at learning rate {max(rates):.3g}.{files} The last checkpoint in '
            f'{runner.work_dir} is from before. Lower the learning rate or use float32 (no --amp), '
            'then --resume.'
        )


def _pictures(runner: Any, batch: dict[str, Any]) -> list[str]:
    """Files of a batch, as pre-training's data set and as mmseg's and mmdet's name them."""
    if 'index' in batch:
        return [str(runner.train_dataloader.dataset.path(int(i))) for i in batch['index']]
    return [str(sample.img_path) for sample in batch.get('data_samples', [])]
