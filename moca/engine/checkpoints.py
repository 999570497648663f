"""Checkpoints of runs: written whole or not at all, and found again after a crash."""

from __future__ import annotations

import os
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.dist import is_main_process
from mmengine.fileio import LocalBackend, register_backend
from mmengine.hooks import CheckpointHook
from mmengine.logging import print_log
from mmengine.model import is_model_wrapper
from mmengine.registry import HOOKS
from torch import Tensor, nn

from moca.engine.renamed import rename_keys
from moca.errors import CheckpointMismatch


def write_atomically(path: str | Path, content: bytes) -> None:
    """Write a file that appears whole or not at all, also if the process is killed meanwhile."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f'.{path.name}.{os.getpid()}.partial')
    try:
        with partial.open('wb') as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)


@register_backend('atomic')
class AtomicLocalBackend(LocalBackend):
    """mmengine's local files, but a file appears whole or not at all."""

    def put(self, obj: bytes, filepath: str | Path) -> None:
        """Write bytes to ``filepath``."""
        write_atomically(filepath, obj)


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """mmengine's hook, safe against a kill at any moment.

    Checkpoints are written atomically, and old ones are removed after the new one is in place
    (mmengine removes first, and a kill between the two would leave none). A checkpoint that is
    resumed from or tested must fit the model exactly (mmengine would load what happens to match).

    Args:
        kwargs: Those of mmengine's ``CheckpointHook``.
    """

    def __init__(self, **kwargs: Any) -> None:
        super().__init__(backend_args=dict(backend='atomic'), **kwargs)

    def before_train(self, runner: Any) -> None:
        """Clear what a killed process left half written, and see what is this run's to remove."""
        super().before_train(runner)
        if runner.param_schedulers is None:  # else each checkpoint brings a warning of it
            self.save_param_scheduler = False
        if is_main_process():
            for partial in Path(self.out_dir).glob('.*.pth.*.partial'):
                partial.unlink(missing_ok=True)
        # without --resume, checkpoints found here are another run's: they stay
        self._mine = run_checkpoints(self.out_dir) if runner.iter > 0 else []

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Compare the tensors of a run's checkpoint with the model's; see `check_fit`."""
        state = checkpoint.get('state_dict', checkpoint)
        rename_keys(state)
        check_fit(runner.model, state, 'the checkpoint')

    def _save_checkpoint_with_step(self, runner: Any, step: int, meta: dict[str, Any]) -> None:
        keep: int = self.max_keep_ckpts  # type: ignore[has-type]
        self.max_keep_ckpts = -1
        try:
            super()._save_checkpoint_with_step(runner, step, meta)
        finally:
            self.max_keep_ckpts = keep
        self._mine.insert(0, Path(self.last_ckpt))
        if keep > 0 and is_main_process():
            for old in self._mine[keep:]:
                old.unlink(missing_ok=True)


def check_fit(model: nn.Module, state: Mapping[str, Any], name: str) -> None:
    """Verify that a run's state dict is exactly a model's, key by key and shape by shape.

    Args:
        model: Wrapped for several processes or not.
        state: What is to be loaded.
        name: What to call it in the message.

    Raises:
        CheckpointMismatch: It differs.
    """
    inner: Any = model.module if is_model_wrapper(model) else model
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
    """Checkpoints ``epoch_N.pth`` and ``iter_N.pth`` of a run, newest first."""
    numbered = []
    for path in Path(folder).glob('*.pth'):
        match = re.fullmatch(r'(epoch|iter)_(\d+)\.pth', path.name)
        if match:
            numbered.append((path.stat().st_mtime_ns, int(match[2]), path))
    return [path for *_, path in sorted(numbered, reverse=True)]


def latest_checkpoint(folder: str | Path) -> Path | None:
    """The newest undamaged checkpoint of a run; damaged newer ones are reported and passed over.

    ``last_checkpoint``, which mmengine trusts, may be empty or name a truncated file after a
    crash; the files themselves are looked at instead.
    """
    for path in run_checkpoints(folder):
        problem = _damage(path)
        if problem is None:
            return path
        print_log(f'{path} is damaged ({problem}); trying the one before.', 'current', 30)
    return None


def _damage(path: Path) -> str | None:
    try:
        with zipfile.ZipFile(path) as archive:
            member = archive.testzip()
    except (zipfile.BadZipFile, OSError) as error:
        return str(error)
    return None if member is None else f'checksum of {member} is wrong'
