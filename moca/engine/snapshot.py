"""The state of a run at one moment, copied into host memory in the time that copying takes."""

from __future__ import annotations

import copy
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import torch
from mmengine.dist import is_main_process
from mmengine.hooks import Hook
from torch import Tensor
from torch.overrides import TorchFunctionMode


class HostCopies(TorchFunctionMode):
    """Within it, ``tensor.cpu()`` and `copy.deepcopy` copy tensors into host memory.

    mmengine gathers a run's state by ``tensor.cpu()``, which on a CPU is no copy and on a GPU goes
    through memory that is new each time and not pinned. Here it is a copy on both. A GPU's copies
    lie in pinned memory, which is used again by the next `Snapshot`; making it takes longer
    than copying. A tensor that comes twice is copied once, as it is saved once.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pinned = torch.cuda.is_available()
        self._free: dict[Any, list[Tensor]] = defaultdict(list)
        # copies by what identifies a tensor, which is held so that no other takes its place
        self._made: dict[Any, tuple[Tensor, Tensor]] = {}
        self._ours: set[int] = set()
        self._lent: list[tuple[Any, Tensor]] = []

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Copy for the two functions; leave the others alone."""
        if func in (Tensor.cpu, Tensor.__deepcopy__):
            return self._copy(args[0])
        return func(*args, **(kwargs or {}))

    def _copy(self, tensor: Tensor) -> Tensor:
        if id(tensor) in self._ours:
            return tensor
        layout = tensor.dtype, tensor.shape, tensor.stride()
        key = tensor.device, tensor.data_ptr(), layout
        if key not in self._made:
            source, free = tensor.detach(), self._free[layout]
            made = (
                free.pop()
                if free
                else torch.empty_like(source, device='cpu', pin_memory=self._pinned)
            )
            self._made[key] = source, made.copy_(source)
            self._ours.add(id(made))
        return self._made[key][1]

    def let_go(self) -> None:
        """Hold no tensor that was copied: a gathered one would stay on the GPU."""
        if self._pinned:
            self._lent += [(layout, made) for (_, _, layout), (_, made) in self._made.items()]
        self._made.clear()
        self._ours.clear()

    def reuse(self) -> None:
        """Let the next copies overwrite those made since the last call."""
        for layout, made in self._lent:
            self._free[layout].append(made)
        self._lent.clear()


class _Taken(Exception):
    """Carries what is to be saved past the function that would save it."""

    def __init__(self, checkpoint: dict[str, Any]) -> None:
        super().__init__()
        self.checkpoint = checkpoint


class _TakeCheckpoint(Hook):
    """The last of all hooks: what the others have made of the checkpoint is what is saved."""

    priority = 'LOWEST'
    armed = False

    def before_save_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Hand it over, while a `Snapshot` is being taken."""
        if self.armed:
            raise _Taken(checkpoint)


class Snapshot:
    """Takes what a runner would save, by mmengine's own function up to the point of writing.

    Only the first process copies and gets anything; the others take part, as sharded parameters
    ask for, and before that in what hooks do in `before_snapshot`, which is called on all.

    Args:
        runner: mmengine's, in ``before_train`` of a hook: one more is registered.
    """

    def __init__(self, runner: Any) -> None:
        self._save: Callable[..., None] = runner.save_checkpoint
        self._look: Callable[[str], None] = runner.call_hook
        self._sharded = hasattr(runner, 'strategy')
        self._hook = _TakeCheckpoint()
        runner.register_hook(self._hook)
        self._copies = HostCopies()

    def take(self, *args: Any, **kwargs: Any) -> dict[str, Any] | None:
        """Copy the state of the run; what the last call gave is overwritten.

        Args:
            args: Those of ``Runner.save_checkpoint``.
            kwargs: Likewise.

        Returns:
            The checkpoint, nothing of which changes as training goes on; None in all but the
            first process.
        """
        self._look('before_snapshot')
        self._copies.reuse()
        with self._armed():
            if not is_main_process():  # which mmengine asks for its shards at most
                with suppress(_Taken):
                    self._save(*args, **kwargs)
                return None
            # sharded parameters are gathered piece by piece, each copied to the host and dropped
            with nullcontext() if self._sharded else self._copies:
                checkpoint = self._take(*args, **kwargs)
            try:
                with self._copies:
                    # also what mmengine has not copied: numbers, histories, optimizer state
                    return copy.deepcopy(checkpoint)
            finally:
                self._copies.let_go()

    def _take(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        try:
            self._save(*args, **kwargs)
        except _Taken as taken:
            return taken.checkpoint
        raise RuntimeError('the runner saves checkpoints without asking its hooks.')

    @contextmanager
    def _armed(self) -> Iterator[None]:
        self._hook.armed = True
        try:
            yield
        finally:
            self._hook.armed = False
