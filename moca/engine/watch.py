"""What a training run reports, read from the device once per log line and not at every step."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import all_gather_object, all_reduce, get_world_size, is_main_process
from mmengine.hooks import LoggerHook, RuntimeInfoHook
from mmengine.registry import HOOKS
from torch import Tensor

from moca.engine.accumulate import step_facts
from moca.engine.finite import (
    check_optimizer,
    check_processes,
    check_values,
    check_weights,
    fetched,
)
from moca.engine.histories import cap_histories
from moca.engine.work_dir import warn_of_changes
from moca.engine.workers import bottleneck_text, loader_share
from moca.records.run_logs import number_piece

# Steps by which the time of loading is judged, so that one slow file is no bottleneck; ours.
_ENOUGH_STEPS = 20


@HOOKS.register_module()
class WatchTraining(RuntimeInfoHook):
    """mmengine's bookkeeping without its wait for the device at each step, and a check on losses.

    mmengine turns every reported tensor into a number at once, which makes the host wait for
    the device several times a step. Here they stay tensors until the next log line or checkpoint,
    when all of them are fetched together: the log shows the same averages. The norm of the
    gradients is treated likewise, and ``images_per_second`` is added: over all processes, with
    loading in it and without validation; so is ``waiting_for_data``, the share of the time in
    which training waited for its loader, with one warning if that is much. Values are means over
    the processes, and are kept for as long as the log looks back (`cap_histories`).

    A loss, a gradient or a weight that is no longer a number stops the run, at the next log line
    and before any checkpoint of the broken weights; so does the state of the optimizer before a
    checkpoint, whichever process finds it in its own. (float16 steps over gradients that overflow.)

    Raises:
        UserError: Naming what is broken, the step, the learning rate and the first files.
    """

    def __init__(self) -> None:
        # of the steps not yet looked at: number, values, learning rate, first files
        self._steps: list[tuple[int, dict[str, Tensor], float, list[str]]] = []
        self._norms: list[Tensor] = []
        self._names: list[str] | None = None
        # lines of the log before a warning; the first has the workers' start in it
        self._patience: int | None = 1

    def before_train(self, runner: Any) -> None:
        """Begin a log, and keep the gradients' norm from being read."""
        super().before_train(runner)
        if is_main_process():
            number_piece(Path(runner.log_dir))
        loggers = [hook for hook in runner.hooks if isinstance(hook, LoggerHook)]
        self._interval = loggers[0].interval if loggers else 50
        wrapper = runner.optim_wrapper
        if getattr(wrapper, 'clip_grad_kwargs', None):
            wrapper.clip_func = self._keeping_norm(wrapper.clip_func)
        self._compare_steps(runner)
        self._since = time.perf_counter()

    def _compare_steps(self, runner: Any) -> None:
        """Say where a run goes on with other images in a step, or with other processes.

        `ExactEpochLoop`, which promises more, has compared them before.
        """
        hub, now = runner.message_hub, step_facts(runner)
        self._images = now['images_per_step']
        was = {name: hub.get_info(name, value) for name, value in now.items()}
        if runner.iter and was != now:
            count, processes = was.values()
            runner.logger.warning(
                f'resume: {count} images on {processes} process{"es" * (processes > 1)} were a '
                f'step, and {now["images_per_step"]} on {now["processes"]} are one now: images or '
                'random numbers are not those that the run would have had.'
            )
        hub.update_info_dict(now)

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Say what a run that is resumed does otherwise from now on."""
        if runner._resume:
            warn_of_changes(runner, checkpoint)

    def before_train_epoch(self, runner: Any) -> None:
        """Start the clock."""
        super().before_train_epoch(runner)
        self._since = time.perf_counter()

    def after_train_epoch(self, runner: Any) -> None:
        """Stop it: what comes now is no training."""
        self._report(runner)

    def before_val(self, runner: Any) -> None:
        """Stop it."""
        super().before_val(runner)
        self._report(runner)
        cap_histories(runner, 'val', len(runner.val_dataloader))

    def after_val(self, runner: Any) -> None:
        """Start it again."""
        super().after_val(runner)
        self._since = time.perf_counter()

    def _keeping_norm(self, clip: Callable[..., Tensor | None]) -> Callable[..., None]:
        def clip_and_keep(*args: Any, **kwargs: Any) -> None:
            norm = clip(*args, **kwargs)
            if norm is not None:
                self._norms.append(norm.detach())

        return clip_and_keep

    def after_train_iter(
        self,
        runner: Any,
        batch_idx: int,
        data_batch: Any = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Keep what the step reported; at a log line, look at it."""
        values = {
            name: value.detach() if isinstance(value, Tensor) else torch.tensor(float(value))
            for name, value in (outputs or {}).items()
        }
        if self._norms:
            values['grad_norm'] = self._norms.pop()
        values = self._averaged(values)
        rate = max(group['lr'] for group in runner.optim_wrapper.param_groups)
        self._steps.append((runner.iter, values, rate, _first_images(runner, data_batch or {})))
        last = runner.iter + 1 == runner.max_iters
        last |= self.end_of_epoch(runner.train_dataloader, batch_idx)
        if self.every_n_inner_iters(batch_idx, self._interval) or last:
            self._report(runner)

    def _averaged(self, values: dict[str, Tensor]) -> dict[str, Tensor]:
        """Average what a step reported over the processes: one small collective, no wait for it.

        The names are agreed on at the first step, since collectives must have the same size
        everywhere; a value that some process lacks is the mean of the others.
        """
        if get_world_size() == 1:
            return values
        if self._names is None:
            self._names = sorted({name for each in all_gather_object([*values]) for name in each})
        device = next((v.device for v in values.values() if v.device.type != 'cpu'), 'cpu')
        zero = torch.zeros((), dtype=torch.float64, device=device)
        known = [values.get(name) for name in self._names]
        table = torch.stack(
            [
                zero if value is None else value.to(zero, non_blocking=True).reshape(())
                for value in known
            ]
            + [zero if value is None else zero + 1 for value in known]
        )
        all_reduce(table)
        sums, counts = table.chunk(2)
        means = dict(zip(self._names, (sums / counts).unbind(), strict=True))
        return {name: means.get(name, value) for name, value in values.items()}

    def before_snapshot(self, runner: Any) -> None:
        """Look at the last steps and at every process's numbers: `Snapshot` calls it on all.

        mmengine calls `before_save_checkpoint` on the first process alone.
        """
        self._report(runner)
        check_processes(runner)

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Let no broken weights be saved, and save the log with all of its values."""
        self._report(runner)
        check_weights(runner, checkpoint['state_dict'])
        check_optimizer(runner)
        if 'message_hub' in checkpoint:
            checkpoint['message_hub'] = runner.message_hub.state_dict()

    def after_train(self, runner: Any) -> None:
        """Look at the last steps."""
        super().after_train(runner)
        self._report(runner)

    def _report(self, runner: Any) -> None:
        """Fetch what the steps since the last time reported, check it and hand it on."""
        steps, self._steps = self._steps, []
        if not steps:
            return
        numbers_of = iter(fetched([value for _, values, *_ in steps for value in values.values()]))
        for iteration, values, rate, files in steps:
            numbers = {name: next(numbers_of) for name in values}
            check_values(runner, iteration, numbers, rate, files)
            for name, number in numbers.items():
                runner.message_hub.update_scalar(f'train/{name}', number)
        now = time.perf_counter()
        speed = self._images * len(steps) / (now - self._since)
        self._since = now
        runner.message_hub.update_scalar('train/images_per_second', speed)
        share = loader_share(runner.message_hub, len(steps))
        if share is not None:
            runner.message_hub.update_scalar('train/waiting_for_data', share)
            if len(steps) >= _ENOUGH_STEPS:
                self._judge_loader(runner, share)
        cap_histories(runner, 'train', len(runner.train_dataloader))

    def _judge_loader(self, runner: Any, share: float) -> None:
        if self._patience is None:
            return
        if self._patience > 0:
            self._patience -= 1
        elif text := bottleneck_text(share, getattr(runner.train_dataloader, 'num_workers', 0)):
            runner.logger.warning(text)
            self._patience = None


@HOOKS.register_module()
class LastStepLoggerHook(LoggerHook):
    """mmengine's log lines, and one of the last step wherever in an interval that falls.

    mmengine has such a line at most at the end of the first epoch, and what a run ends with would
    be in no log. Arguments are those of mmengine's ``LoggerHook``.
    """

    _last = False

    def after_train_iter(self, runner: Any, batch_idx: int, *args: Any, **kwargs: Any) -> None:
        """Write a line, if it is time for one."""
        self._last = runner.iter + 1 == runner.max_iters
        given: bool = self.ignore_last  # type: ignore[has-type]
        self.ignore_last = given and not self._last
        super().after_train_iter(runner, batch_idx, *args, **kwargs)
        self.ignore_last = given

    def end_of_epoch(self, dataloader: Any, batch_idx: int) -> bool:
        """Whether an epoch ends here, or training, however its loop counts batches."""
        return self._last or super().end_of_epoch(dataloader, batch_idx)


def _first_images(runner: Any, batch: Any, count: int = 4) -> list[str]:
    """Files of a batch, as pre-training's data set and as mmseg's and mmdet's name them."""
    dataset = runner.train_dataloader.dataset
    if 'index' in batch and hasattr(dataset, 'path'):
        return [str(dataset.path(index)) for index in batch['index'][:count].tolist()]
    samples = list(batch.get('data_samples') or [])[:count]
    return [str(sample.img_path) for sample in samples if 'img_path' in sample]
