"""Counting the images that had to be skipped, and stopping before they become many."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from mmengine.dist import all_gather_object, broadcast_object_list, get_world_size, is_main_process
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from moca.errors import AgreedError, UserError
from moca.records.whole_files import write_atomically

REPORT = 'corrupt_images.txt'
# Below this many images a share of 1 % is too uncertain to stop a run of many more.
_IMAGES_TO_JUDGE = 5000


class SkippingImages(Protocol):
    """A training set that puts another image in the place of one that cannot be decoded.

    A sample's ``corrupt_index`` is the place of the one that was to be there, -1 if all is well.

    Attributes:
        data_root: What holds the images.
        paths: What each image is called in the report.
    """

    data_root: Any

    @property
    def paths(self) -> Sequence[str]: ...

    def __len__(self) -> int: ...

    def path(self, index: int) -> Any:
        """Where an image is."""

    def fault(self, index: int) -> str | None:
        """Why an image cannot be decoded; None if it can."""


@HOOKS.register_module()
class CorruptImages(Hook):
    """Name every corrupt image once, in the log and in ``corrupt_images.txt``; stop at many.

    A data set of `SkippingImages` puts another image in a corrupt one's place and says so in the
    sample; one whose samples do not speak of it is left alone. This hook gathers what all workers
    and processes met, so that a run of any size stops in all processes at the same step, with one
    message.

    Args:
        max_share: Largest share of the images that may be corrupt. Distinct images are
            compared with those seen, at least 5000 of them or the whole data set; a single one
            never stops a run.
        interval: Steps between exchanges among processes; a single process looks at every step.
    """

    def __init__(self, max_share: float = 0.01, interval: int = 50) -> None:
        if not 0 <= max_share <= 1:
            raise UserError(f'CorruptImages.max_share is {max_share}; it must be in [0, 1].')
        self.max_share = max_share
        self.interval = interval
        self._met: set[int] = set()
        self._named: dict[str, str] = {}

    def before_train(self, runner: Runner) -> None:
        """Start with an empty report, or with that of the run that is resumed."""
        self._report = Path(runner.work_dir) / REPORT
        named: list[dict[str, str]] = [{}]
        if is_main_process() and self._report.is_file():
            if runner.iter > 0:
                named = [_read(self._report)]
            else:
                self._report.unlink()
        broadcast_object_list(named)
        self._named = named[0]

    def after_train_iter(
        self,
        runner: Runner,
        batch_idx: int,
        data_batch: dict[str, Any] | None = None,
        outputs: dict[str, Any] | None = None,
    ) -> None:
        """Note the corrupt images of this step."""
        if data_batch is None or 'corrupt_index' not in data_batch:
            return
        corrupt = torch.as_tensor(data_batch['corrupt_index'])
        self._met.update(corrupt[corrupt >= 0].tolist())
        if get_world_size() == 1 or self.every_n_train_iters(runner, self.interval):
            self._exchange(runner)

    def after_train_epoch(self, runner: Runner) -> None:
        """Leave none unnamed at the end."""
        self._exchange(runner)

    def _exchange(self, runner: Runner) -> None:
        met = set().union(*all_gather_object(self._met)) if get_world_size() > 1 else self._met
        self._met = set()
        dataset = runner.train_dataloader.dataset
        new = [index for index in sorted(met) if dataset.paths[index] not in self._named]
        if not new:
            return
        for index in new:
            fault = dataset.fault(index) or 'it could not be decoded before'
            fault = ' '.join(fault.split())
            self._named[dataset.paths[index]] = fault
            runner.logger.warning(
                f'Corrupt image {len(self._named)} of {len(dataset)}, skipped: '
                f'{dataset.path(index)} ({fault})'
            )
        if is_main_process():
            _write(self._report, self._named)
        self._check_share(runner, dataset)

    def _check_share(self, runner: Runner, dataset: SkippingImages) -> None:
        batch = runner.train_dataloader.sampler.group * get_world_size()
        seen = max((runner.iter + 1) * batch, _IMAGES_TO_JUDGE)
        judged = min(seen, len(dataset))
        if len(self._named) <= max(1, self.max_share * judged):
            return
        some = ', '.join(list(self._named)[:3])
        raise AgreedError(
            f'{dataset.data_root}: {len(self._named)} of {judged} images cannot be decoded, more '
            f'than {self.max_share:.2%} (for example {some}; all are listed in {self._report}). '
            'Repair or remove them, or allow more: --cfg-options default_hooks.corrupt.max_share='
            f'{math.ceil(100 * len(self._named) / judged) / 100:.2f}'
        )


def _read(report: Path) -> dict[str, str]:
    lines = report.read_text('utf-8', 'surrogateescape').splitlines()
    return {path: fault for path, _, fault in (line.partition('\t') for line in lines)}


def _write(report: Path, named: dict[str, str]) -> None:
    lines = ''.join(f'{path}\t{fault}\n' for path, fault in named.items())
    write_atomically(report, lines.encode('utf-8', 'surrogateescape'))
