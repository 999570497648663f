"""A training loop that goes on from the middle of an epoch exactly where a run was cut off."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch
from mmengine.dist import broadcast_object_list
from mmengine.registry import LOOPS
from mmengine.runner import EpochBasedTrainLoop, Runner
from torch import nn
from torch.utils.data import DataLoader

from moca.engine.accumulate import accumulation_of, step_facts, train_on_parts
from moca.engine.epoch_order import EpochShuffle
from moca.engine.prefetch import Prefetched
from moca.engine.too_large import too_large
from moca.errors import UserError


@LOOPS.register_module()
class ExactEpochLoop(EpochBasedTrainLoop):
    """mmengine's loop over epochs, except that resuming neither repeats nor skips a batch.

    mmengine's own loop starts the epoch of a checkpoint from its first batch, and its loop over
    iterations loads and throws away all past batches. Here `EpochShuffle` starts at the batch
    after the checkpoint's, at no cost, so that checkpoints may be saved at any iteration
    (``CheckpointHook(by_epoch=False)``) or epoch. The order in which images come follows the
    seed of the run that is resumed, also where the config gives none.

    An iteration is a step of the optimizer. With ``optim_wrapper.accumulative_counts=N`` it takes
    N batches of the loader, one after the other, so that epochs, intervals and schedules are the
    recipe's and every checkpoint lies between two steps (mmengine counts the batches instead).
    The method learns from its attribute ``part`` which of how many it is given.

    The loader's iterator goes through all epochs that are left, so that its workers do not run dry
    between two, and a GPU gets each batch while it computes the step before. Making it takes a
    number from torch's global generator, once more on resuming; here it has a generator of its own,
    so that everything else draws the same numbers either way.

    Args:
        runner: Of mmengine.
        dataloader: With an `EpochShuffle`.
        max_epochs: How long.
        approximately: Whether a run over other images, or with other steps in an epoch, may be
            resumed at the same share of its epoch; so may one of another number of processes.
        kwargs: Of mmengine's loop.

    Raises:
        UserError: ``max_epochs`` is no whole number from 1 up, the sampler is not an
            `EpochShuffle`, an epoch has no batch, or the checkpoint to resume is of other images,
            of other steps in an epoch, images in a step or processes, or has had more epochs.
    """

    def __init__(
        self,
        runner: Runner,
        dataloader: DataLoader | dict,
        max_epochs: int,
        approximately: bool = False,
        **kwargs: Any,
    ) -> None:
        if not isinstance(max_epochs, int) or max_epochs < 1:
            raise UserError(f'train_cfg.max_epochs={max_epochs!r}: give a whole number from 1 up.')
        super().__init__(runner, dataloader, max_epochs, **kwargs)
        sampler = self.dataloader.sampler
        if not isinstance(sampler, EpochShuffle):
            raise UserError(
                f'train_dataloader.sampler is {type(sampler).__name__}; '
                "ExactEpochLoop needs dict(type='EpochShuffle')."
            )
        self.approximately = approximately
        self.accumulate = accumulation_of(runner)
        samples = len(sampler)
        sampler.group = self.dataloader.batch_size * self.accumulate
        self.steps = len(sampler) // sampler.group
        if not self.steps:
            batch = self.dataloader.batch_size
            fewer = (
                f'Give --accumulate {samples // batch} or less'
                if self.accumulate > 1 and samples >= batch
                else f'Make it at most {samples}'
            )
            raise UserError(
                f'train_dataloader.batch_size is {batch}'
                + (f', {self.accumulate} times a step' if self.accumulate > 1 else '')
                + f', but each process has {samples} images: no batch at all. {fewer}, or give '
                'more images.'
            )
        self._max_iters = self._max_epochs * self.steps
        self._batches: Iterator[dict[str, Any]] | None = None

    def run(self) -> nn.Module:
        """Train to the last epoch."""
        self._find_place()
        if self._iter >= self._max_iters:
            epochs = math.ceil(self._iter / self.steps)
            done = f'the run has had {epochs} of {self._max_epochs} epochs'
            if self._iter > self._max_iters:
                raise UserError(
                    f'resume: {done} (train_cfg.max_epochs). Give --epochs {epochs} or more, or '
                    'start a new run with --work-dir.'
                )
            self.runner.logger.info(f'Finished before: {done}; more --epochs make it longer.')
        hub = self.runner.message_hub
        hub.update_info('steps_per_epoch', self.steps)
        hub.update_info_dict(self._facts())
        # Of the first process: `diff_rank_seed` gives each its own, the order must be common.
        seed = [self.runner.seed]
        broadcast_object_list(seed)
        self.dataloader.sampler.seed = seed[0]
        self.dataloader.generator = torch.Generator()
        # counted in batches there, in steps here
        self.runner.optim_wrapper.initialize_count_status(
            self.runner.model, self._iter * self.accumulate, self._max_iters * self.accumulate
        )
        try:
            return super().run()
        finally:
            # Persistent workers end now. Left to the garbage collector, which meets them within
            # the Runner's reference cycles, each holds the process up for five seconds.
            self.dataloader._iterator = self._batches = None

    def _find_place(self) -> None:
        """Hold the run that is resumed against this one, where that is to go on exactly."""
        if not self.iter:
            return
        hub = self.runner.message_hub  # which travels in the checkpoints
        before = hub.get_info('steps_per_epoch', self.steps)
        done: int = self.iter - self.epoch * before
        written = (
            f'resume: the checkpoint was written after step {self.iter}, in epoch {self.epoch + 1} '
            'of a run'
        )
        if not 0 <= done <= before:
            raise UserError(
                f'{written} whose epochs have {before} steps, which cannot be. Resume from another '
                'checkpoint, or start a new run with --work-dir.'
            )
        other = self._difference(hub, before)
        if other and not self.approximately:
            raise UserError(
                f'{written} {other} Resume with the data set, batch size and number of processes '
                'of that run, go on at the same share of the epoch by --resume-approximately '
                '(train_cfg.approximately=True), or start a new one with --work-dir.'
            )
        if other:
            done = done * self.steps // before
            self._iter = self.epoch * self.steps + done
            self.runner.logger.warning(
                f'resume, approximately: the checkpoint is of a run {other} Going on after {done} '
                f'steps of epoch {self.epoch + 1}.'
            )

    def _difference(self, hub: Any, steps: int) -> str:
        """What keeps a run from being gone on with exactly; empty if nothing does.

        Args:
            hub: mmengine's message hub with the facts of that run; those that an earlier version
                has not noted are taken to be the same.
            steps: That its epochs have.
        """
        facts = self._facts()
        was = {name: hub.get_info(name, value) for name, value in facts.items()}
        others = 'over other images, ' if was.get('images') != facts.get('images') else ''
        some = 'some images of it come twice or not at all.'
        if steps != self.steps:
            return (
                f'{others}whose epochs have {steps} steps; here they have {self.steps}. In an '
                f'epoch that is resumed, {some}'
            )
        if others:
            return f'over other images. In an epoch that is resumed, {some}'
        count, processes = was['images_per_step'], was['processes']
        if count != facts['images_per_step']:
            return (
                f'whose steps have {count} images; here they have {facts["images_per_step"]}. In '
                f'an epoch that is resumed, {some}'
            )
        if processes != facts['processes']:
            return (
                f'of {processes} process{"es" * (processes > 1)}; this one has '
                f'{facts["processes"]}. Steps have the images that they would have had, but other '
                'random numbers, such as masks.'
            )
        return ''

    def _facts(self) -> dict[str, Any]:
        """What has to be as before for a run to go on exactly."""
        facts: dict[str, Any] = step_facts(self.runner)
        if hasattr(self.dataloader.dataset, 'digest'):
            facts['images'] = self.dataloader.dataset.digest
        return facts

    def run_epoch(self) -> None:
        """Train on what is left of the epoch: all of it, but for a first one after resuming."""
        self.runner.call_hook('before_train_epoch')
        self.runner.model.train()
        done = self._iter - self._epoch * self.steps
        if self._batches is None:
            sampler = self.dataloader.sampler
            sampler.set_epoch(self._epoch)
            sampler.skip(done * sampler.group)
            sampler.epochs = self._max_epochs - self._epoch
            device = next(self.runner.model.parameters()).device
            self._batches = Prefetched(iter(self.dataloader), device)
        for _ in range(done, self.steps):
            self.run_step(self._batches)
        self.runner.call_hook('after_train_epoch')
        self._epoch += 1

    def run_step(self, batches: Iterator[dict[str, Any]]) -> None:
        """One step of the optimizer, on the next ``accumulate`` batches.

        Hooks get the first batch before it, and all of the images' indices after it. The number
        of the step takes the place of the batch's in its epoch, so that a hook's interval goes on
        from one epoch to the next.

        Raises:
            UserError: There is not enough memory for it; names a batch for which there is.
        """
        first = next(batches)
        self.runner.call_hook('before_train_iter', batch_idx=self._iter, data_batch=first)
        fits = True
        try:
            outputs, about = train_on_parts(self.runner, first, batches, self.accumulate)
        except torch.OutOfMemoryError:
            fits = False
        if not fits:  # here, where the error no longer holds what the step has made
            raise too_large(self.runner, first, self.accumulate)
        self.runner.call_hook(
            'after_train_iter', batch_idx=self._iter, data_batch=about, outputs=outputs
        )
        self._iter += 1
