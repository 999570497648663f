"""Checkpoints of runs: written whole or not at all, and found again after a crash."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import torch
from mmengine.dist import broadcast_object_list, get_world_size, is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor, nn

from moca.engine.archives import archive_damage
from moca.engine.background import BackgroundJob
from moca.engine.disk_errors import disk_error
from moca.engine.meeting import processes_of
from moca.engine.ranges import check_positive
from moca.engine.renamed import rename_keys
from moca.engine.snapshot import Snapshot
from moca.engine.wrapped import unwrapped
from moca.errors import CheckpointMismatch, UserError
from moca.records.whole_files import atomic_file, write_atomically

# Steps between two looks at the first process's clock, which all processes have to share.
_STEPS_BETWEEN_LOOKS = 20


class CheckpointNotWritten(UserError, OSError):
    """The disk refuses a checkpoint."""


@register_backend('atomic')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, but a file appears whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to ``filepath``."""
        write_atomically(filepath, obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook, safe against a kill at any moment, and training goes on meanwhile.

    Checkpoints are written atomically, by a thread of the first process and from a copy of the
    state; at most one is being written, and the run ends when the last one is there. A kill
    loses at most that one: old ones are removed after the new one is in place (mmengine
    removes first, and a kill between the two would leave none). What keeps a checkpoint from being
    written ends the run at its next step. ``save_best`` is written at once.

    A checkpoint that is resumed from or tested must fit the model exactly (mmengine would load
    what happens to match).

    Args:
        minutes: Beside those of ``interval``, write a checkpoint ``iter_N.pth`` when the last one
            is that many minutes old; the next one of either kind takes its place. Needs a loop
            that resumes within an epoch, as all of ours do.
        kwargs: Those of mmengine's ``CheckpointHook``.

    Raises:
        UserError: ``minutes`` is not above 0.
    """

    def __init__(self, minutes: float | None = None, **kwargs: Any) -> None:
        super().__init__(backend_args=dict(backend='atomic'), **kwargs)
        if minutes is not None:
            check_positive(minutes, 'default_hooks.checkpoint.minutes')
        self.minutes = minutes
        self._writer = BackgroundJob()

    def before_train(self, runner: Any) -> None:
        """Clear what a killed process left half written, and see what is this run's to remove."""
        super().before_train(runner)
        if runner.param_schedulers is None:  # else each checkpoint brings a warning of it
            self.save_param_scheduler = False
        if is_main_process():
            for partial in Path(self.out_dir).glob('.*.partial'):
                partial.unlink(missing_ok=True)
            self._note_resumed(runner)
        # without --resume, checkpoints found here are another run's: they stay
        self._mine = run_checkpoints(self.out_dir) if runner.iter > 0 else []
        self._snapshot = Snapshot(runner)
        self._saved = time.monotonic()
        self._saved_after: int | None = None  # step
        self._between: Path | None = None
        self._is_between = False

    def _note_resumed(self, runner: Any) -> None:
        """Name what this run goes on from, which a process may have been killed before it could."""
        resumed, folder = Path(runner._load_from or '').absolute(), Path(runner.work_dir)
        here = resumed.parent == folder.absolute() == Path(self.out_dir).absolute()
        if runner.iter > 0 and here and _noted(folder) not in ('', resumed.name):
            write_atomically(resumed.parent / 'last_checkpoint', str(resumed).encode())

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the tensors of a run's checkpoint with the model's; see `check_fit`."""
        state = checkpoint.get('state_dict', checkpoint)
        rename_keys(state)
        check_fit(runner.model, state, 'the checkpoint')

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Save if it is time, and end the run if the last checkpoint could not be written."""
        self._writer.check()
        super().after_train_iter(runner, *args, **kwargs)
        if self.minutes is not None and self._is_due(runner.iter):
            self._save_between(runner)

    def before_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        """Forget what was saved: at the end of an epoch it has the number of the step to come."""
        self._saved_after = None

    def save_now(self, runner: Any) -> None:
        """Save after this step, unless that was done, and wait on all processes till it is written.

        One that has nothing to write would end, and the first one with it.
        """
        if self._saved_after != runner.iter:
            self._save_between(runner)
        processes = processes_of(runner.cfg.get('launcher', 'none'))
        processes.first('the checkpoint is written', self._writer.wait)

    def _save_between(self, runner: Any) -> None:
        named: tuple[str, bool] = self.filename_tmpl, self.by_epoch  # type: ignore[has-type]
        self.filename_tmpl, self.by_epoch = 'iter_{}.pth', False
        self._is_between = True
        try:
            self._save_checkpoint(runner)
        finally:
            self.filename_tmpl, self.by_epoch = named
            self._is_between = False

    def after_train(self, runner: Any) -> None:
        """Wait for the last checkpoint."""
        self._writer.wait()
        super().after_train(runner)

    def _is_due(self, step: int) -> bool:
        assert self.minutes is not None
        due = [time.monotonic() - self._saved >= 60 * self.minutes]
        if get_world_size() > 1:
            if (step + 1) % _STEPS_BETWEEN_LOOKS:
                return False
            broadcast_object_list(due)
        return due[0]

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        path = Path(self.out_dir) / self.filename_tmpl.format(step)
        self.last_ckpt = str(path)
        self._wait(runner)
        with _noted_last(runner, path):
            content = self._snapshot.take(
                self.out_dir,
                path.name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                **self.args,
            )
        old = [] if self._between in (None, path) else [self._between]
        self._between = path if self._is_between else None
        if not self._is_between:
            # once, though `save_best` makes one anew
            self._mine = [path, *(other for other in self._mine if other != path)]
            old += self._mine[self.max_keep_ckpts :] if self.max_keep_ckpts > 0 else []
            self._mine = [other for other in self._mine if other not in old]
        self._saved, self._saved_after = time.monotonic(), runner.iter

        def write() -> None:
            try:
                with atomic_file(path) as file:
                    torch.save(content, file)
                runner.message_hub.update_info('last_ckpt', str(path))
                write_atomically(Path(runner.work_dir) / 'last_checkpoint', str(path).encode())
                for other in old:
                    other.unlink(missing_ok=True)
            except (OSError, RuntimeError) as error:
                # torch has an error of its own for a file that has become too short
                if not isinstance(error, OSError) and disk_error(error) is None:
                    raise
                before = latest_checkpoint(Path(runner.work_dir))
                still = f'{before.name} is still there' if before else 'there is none before it'
                again = '--resume' if before else 'start again'
                why = getattr(error, 'strerror', None) or error
                raise CheckpointNotWritten(
                    f'{path}: this checkpoint could not be written ({why}); {still}. Make room '
                    f'on the disk or make it writable, then {again}.'
                ) from error

        if content is not None:
            self._writer.start(write)
        else:  # the first process writes it, and ends the others if it cannot
            runner.message_hub.update_info('last_ckpt', str(path))

    def _wait(self, runner: Any) -> None:
        """Wait for the checkpoint before, whose memory the next one takes; say so if it is long."""
        since = time.monotonic()
        self._writer.wait()
        waited = time.monotonic() - since
        if waited > 1:
            runner.logger.warning(
                f'Training has waited {waited:.0f} s for the last checkpoint to be written. Save '
                'less often (default_hooks.checkpoint.interval), or to a faster disk.'
            )


@contextmanager
def _noted_last(runner: Any, path: Path) -> Iterator[None]:
    """Have a checkpoint name itself as the last one, which the run does when it is in place."""
    before = runner.message_hub.runtime_info.get('last_ckpt')
    runner.message_hub.update_info('last_ckpt', str(path))
    try:
        yield
    finally:
        runner.message_hub.update_info('last_ckpt', before)


def check_fit(model: nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Verify that a run's state dict is exactly a model's, key by key and shape by shape.

    Args:
        model: Wrapped for several processes or not.
        state: What is to be loaded.
        name: What to call it in the message.

    Raises:
        CheckpointMismatch: It differs.
    """
    inner = unwrapped(model)
    # a sharded model (moca.engine.fsdp) has but pieces of its tensors, and notes how large they are
    ours = getattr(model, 'whole_shapes', None) or {
        key: list(value.shape) for key, value in inner.state_dict().items()
    }
    theirs = {k: list(v.shape) for k, v in state.items() if isinstance(v, Tensor)}
    differing = sorted(k for k in ours.keys() | theirs.keys() if ours.get(k) != theirs.get(k))
    if differing:
        rows = [
            f'{key} ({theirs.get(key, "absent")} in the file, {ours.get(key, "absent")} here)'
            for key in differing[:3]
        ]
        raise CheckpointMismatch(
            f'{name} is of another model than the config: {len(differing)} tensors differ: '
            f'{", ".join(rows)}{", ..." if len(differing) > 3 else ""}. '
            'Use the config beside it, or that and the options (--arch) of the run that wrote it; '
            'or start a new run with --work-dir.'
        )


def run_checkpoints(folder: str | Path) -> list[Path]:
    """Checkpoints ``epoch_N.pth`` and ``iter_N.pth`` of a run, newest first.

    They are in the order of their times. Clocks may jump, or differ between machines: of those
    that seem newer than the one that ``last_checkpoint`` names, only one that has got further was
    written after it, by a process that was killed before it could note that.
    """
    found: list[tuple[int, int, str, Path]] = []
    for path in Path(folder).glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if match:
            with suppress(FileNotFoundError):  # removed meanwhile
                found.append((path.stat().st_mtime_ns, int(match[2]), match[1], path))
    found.sort(reverse=True)
    noted = _noted(Path(folder))
    for place, (_, number, kind, path) in enumerate(found):
        if path.name == noted:
            late = [row for row in found[:place] if row[2] == kind and row[1] < number]
            newer = [row for row in found[:place] if row not in late]
            found = [*newer, found[place], *late, *found[place + 1 :]]
            break
    return [path for *_, path in found]


def _noted(folder: Path) -> str:
    """The name in ``last_checkpoint``, which mmengine trusts; it may be empty after a crash."""
    try:
        text = (folder / 'last_checkpoint').read_text(errors='replace')
    except OSError:
        return ''
    return text.strip().rpartition('/')[2]


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The newest undamaged checkpoint of a run; damaged newer ones are reported and passed over.

    ``last_checkpoint``, which mmengine trusts, may name a truncated file after a crash: the files
    themselves are looked at.
    """
    for path in run_checkpoints(folder):
        problem = archive_damage(path)
        if problem is None:
            return path
        print_log(f'{path} is damaged ({problem}); trying the one before.', 'current', 30)
    return None
