"""A training loop that goes on from the middle of an epoch exactly where a run was cut off."""

from __future__ import annotations

from typing import Any

import torch
from mmengine.dist import broadcast_object_list
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from moca.errors import UserError
from moca.pretrain.data import EpochShuffle


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, except that resuming neither repeats nor skips a batch.

    mmengine's own loop starts the epoch of a checkpoint from its first batch, and its loop over
    iterations loads and throws away all past batches. Here `EpochShuffle` starts at the batch
    after the checkpoint's, at no cost, so that checkpoints may be saved at any iteration
    (``CheckpointHook(by_epoch=False)``) or epoch. The order in which pictures come follows the
    seed of the run that is resumed, also where the config gives none.

    Making the loader's iterator takes a number from torch's global generator, once an epoch
    and once more on resuming; here it has a generator of its own, so that everything else draws
    the same numbers either way.

    Raises:
        UserError: The sampler is not an `EpochShuffle`, an epoch has no batch, or the checkpoint
            to resume counted other steps in an epoch.
    """

    def __init__(
        self, runner: Runner, dataloader: DataLoader | dict, max_epochs: int, **kwargs: Any
    ) -> None:
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        if not isinstance(self.dataloader.sampler, EpochShuffle):
            raise UserError(
                f'train_dataloader.sampler is {type(self.dataloader.sampler).__name__}; '
                "ExactEpochLoop needs dict(type='EpochShuffle')."
            )
        if not len(self.dataloader):
            samples = len(self.dataloader.sampler)
            raise UserError(
                f'train_dataloader.batch_size is {self.dataloader.batch_size}, but each process '
                f'has {samples} pictures: no batch at all. Make it at most {samples}, or give '
                'more pictures.'
            )

    def run(self) -> nn.Module:
        """Train to the last epoch."""
        steps = len(self.dataloader)
        if not 0 <= self._iter - self._epoch * steps <= steps:
            raise UserError(
                f'resume: the checkpoint is at iteration {self._iter} of epoch {self._epoch + 1}, '
                f'but here an epoch has {steps} steps. Resume with the data set, batch size and '
                'number of processes of the run, or start a new one with --work-dir.'
            )
        # Of the first process: `diff_rank_seed` gives each its own, the order must be common.
        seed = [self.runner.seed]
        broadcast_object_list(seed)
        self.dataloader.sampler.seed = seed[0]
        self.dataloader.generator = torch.Generator()
        try:
            return super().run()
        finally:
            # Persistent workers end now. Left to the garbage collector, which meets them within
            # the Runner's reference cycles, each holds the process up for five seconds.
            self.dataloader._iterator = None

    def run_epoch(self) -> None:
        """Train on what is left of the epoch: all of it, but for a first one after resuming."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * len(self.dataloader)
        self.dataloader.sampler.set_epoch(self._epoch)
        self.dataloader.sampler.skip(done * self.dataloader.batch_size)
        for idx, data_batch in enumerate(self.dataloader, start=done):
            self.run_iter(idx, data_batch)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1
