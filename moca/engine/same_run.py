"""Whether the processes of a run do the same: their settings at the start, their weights after."""

from __future__ import annotations

import hashlib
import json
import re
import socket
from collections import defaultdict
from collections.abc import Mapping
from functools import cache
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.hooks import Hook
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from torch import Tensor, nn

from moca.engine.agreement import Processes, numbers
from moca.engine.meeting import processes_of
from moca.engine.wrapped import unwrapped
from moca.errors import AgreedError
from moca.records.config_values import config_leaves, short_text

PACKAGES = ('torch', 'torchvision', 'timm', 'mmengine', 'mmcv', 'mmseg', 'mmdet')
"""Packages whose versions have to be the same on every node."""

# Last names of fields that each node may have its own of, as it may of every value with a slash in
# it: where its files are, and how it loads them.
_OWN = {
    *('ann_file', 'bank', 'checkpoint', 'data_root', 'load_from', 'work_dir'),
    *('num_workers', 'persistent_workers', 'pin_memory', 'prefetch_factor'),
    *('experiment_name', 'log_level'),
}
_SHOWN = 4  # differences in a message
_ROOT = Path(__file__).parents[1]


def check_same_device(processes: Processes) -> None:
    """Refuse to train on GPUs here and CPUs there, whose process groups would never meet.

    Raises:
        AgreedError: On all processes, naming those without.
    """
    found = processes.everywhere('device', torch.cuda.is_available)
    if any(found) and not all(found):
        lacking = [rank for rank, there in enumerate(found) if not there]
        raise AgreedError(
            f'torch sees no GPU on {numbers(lacking)} of {processes.size}, and one on the others. '
            'See to the driver and to CUDA_VISIBLE_DEVICES of that node.'
        )


def check_same_start(cfg: Config) -> None:
    """Compare configs, package versions and this package's own code between processes.

    Digests are compared, and the fields themselves only where those differ. Paths and the loaders'
    workers may be each node's own; where paths differ, the log says so.

    Args:
        cfg: Of the run, complete, with ``launcher``.

    Raises:
        AgreedError: On all processes, naming what differs and where.
    """
    processes = processes_of(cfg.get('launcher', 'none'))
    if processes.size == 1:
        return
    own: dict[str, str] = {}
    common = _versions()
    for field, value in config_leaves(cfg.to_dict()):
        text = _text(value)
        mine = field.rpartition('.')[2] in _OWN or '.data_prefix.' in field or '/' in text
        (own if mine else common)[field] = text
    found = differences(processes, 'settings', common)
    if found:
        raise AgreedError(
            f'the processes were started differently: {_listed(found)}. Give all of them the same '
            'config, options and packages (one virtual environment on a shared file system).'
        )
    for line in differences(processes, 'paths', own):
        if processes.rank == 0:
            print_log(f'Processes differ, which is taken to be meant: {line}', 'current')


@HOOKS.register_module()
class SameOnAllProcesses(Hook):
    """Compares iteration, epoch, seed and weights of all processes before the first step.

    Gradients are shared, so that processes which start from other weights would go on apart, and
    the log would not show it; and one that has fewer images would leave the others waiting.
    Compared are parameters and buffers that every process has whole; of sharded ones
    (`moca.engine.fsdp`) what each process has read from the checkpoint. Left out is what is each
    process's own: its random states, and its shards.

    The cost is one pass over the weights where they are and one number each to the host, once:
    0.15 s for ViT-B on one CPU core.

    Raises:
        AgreedError: On all processes, naming what differs and where.
    """

    priority = 'LOWEST'  # after hooks that change weights

    def __init__(self) -> None:
        self._loaded: dict[str, int] = {}

    def after_load_checkpoint(self, runner: Any, checkpoint: dict[str, Any]) -> None:
        """Keep a digest of what a sharded model is loaded from."""
        if hasattr(runner.model, 'replicated'):
            state = checkpoint.get('state_dict', checkpoint)
            tensors = {f'{k} of the checkpoint': v for k, v in state.items()}
            self._loaded = digests({k: v for k, v in tensors.items() if isinstance(v, Tensor)})

    def before_train(self, runner: Any) -> None:
        """Compare."""
        processes = processes_of(runner.cfg.get('launcher', 'none'))
        if processes.size == 1:
            return
        randomness = runner.cfg.get('randomness') or {}
        facts = {
            'iteration': str(runner.iter),
            'epoch': str(runner.epoch),
            'steps to take': str(runner.max_iters),
        }
        if hasattr(runner.train_dataloader.dataset, '__len__'):
            facts['training images'] = str(len(runner.train_dataloader.dataset))
        if not randomness.get('diff_rank_seed'):
            facts['seed'] = str(runner.seed)
        found = differences(processes, 'counts before the first step', facts)
        weights = {**digests(whole_tensors(runner.model)), **self._loaded}
        texts = {key: f'digest {value % 2**64:016x}' for key, value in weights.items()}
        differing = differences(processes, 'weights before the first step', texts)
        if differing:
            more = f' and {len(differing) - 1} other tensors' if len(differing) > 1 else ''
            found.append(differing[0].replace(':', f'{more}:', 1))
        if found:
            raise AgreedError(
                f'the processes would not train as one: {_listed(found)}. Let all of them read '
                'the same checkpoint (work dir on a file system that all nodes share) and run the '
                'same code.'
            )


def differences(processes: Processes, about: str, facts: Mapping[str, str]) -> list[str]:
    """What differs between processes, a line a fact, on all of them; empty if nothing does.

    Args:
        processes: Of the run.
        about: For messages.
        facts: Names and values of this process.
    """
    digest = hashlib.sha256(json.dumps(sorted(facts.items())).encode()).hexdigest()
    if len(set(processes.everywhere(about, lambda: digest))) == 1:
        return []
    host = socket.gethostname()
    tables = processes.everywhere(f'{about}, one by one', lambda: (host, dict(facts)))
    lines = []
    for name in sorted({name for _, table in tables for name in table}):
        ranks: dict[str, list[int]] = defaultdict(list)
        for rank, (_, table) in enumerate(tables):
            ranks[table.get(name, 'absent')].append(rank)
        if len(ranks) > 1:
            said = [
                f'{short_text(value)} on {numbers(have)} ({tables[have[0]][0]})'
                for value, have in ranks.items()
            ]
            lines.append(f'{name}: {", ".join(said[:3])}{", ..." * (len(said) > 3)}')
    return lines


def whole_tensors(model: nn.Module) -> dict[str, Tensor]:
    """Weights and buffers of a model that have to be the same in every process."""
    replicated = getattr(model, 'replicated', None)
    if replicated is None:
        inner = unwrapped(model)
        state: dict[str, Any] = inner.state_dict()
    else:
        ids = {id(parameter) for parameter in replicated}
        named = ((n, p) for n, p in model.named_parameters() if id(p) in ids)
        state = dict(chain(named, model.named_buffers()))
    return {name: value for name, value in state.items() if isinstance(value, Tensor)}


@torch.no_grad()
def digests(tensors: Mapping[str, Tensor]) -> dict[str, int]:
    """A number for the bits of each tensor: another with all but certainty if any bit is.

    Computed where the tensors are, in whole numbers modulo 2**64, hence the same everywhere; a
    quarter of a million elements at a time, and fetched from each device at once.
    """
    sums: dict[torch.device, dict[str, Tensor]] = defaultdict(dict)
    for name, value in tensors.items():
        if value.layout == torch.strided and not value.is_meta:
            sums[value.device][name] = _digest(value.detach())
    return {
        name: number
        for values in sums.values()
        for name, number in zip(values, torch.stack([*values.values()]).tolist(), strict=True)
    }


_BITS = {1: torch.uint8, 2: torch.int16, 4: torch.int32, 8: torch.int64}
_CHUNK = 1 << 18
_ODD = 0x1E3779B97F4A7C15  # any odd number does that has no pattern


def _digest(value: Tensor) -> Tensor:
    flat = (torch.view_as_real(value) if value.is_complex() else value).reshape(-1)
    bits = flat.contiguous().view(
        _BITS[value.element_size() if not value.is_complex() else flat.element_size()]
    )
    total = torch.zeros((), dtype=torch.int64, device=value.device)
    for chunk in bits.split(_CHUNK):
        # a swap of two elements shows as well: each place has a factor of its own
        total = total * _ODD + (chunk * _factors(value.device)[: len(chunk)]).sum()
    return total


@cache
def _factors(device: torch.device) -> Tensor:
    """Odd numbers, so that no change of a single element is multiplied away, ``[_CHUNK]``."""
    return (torch.arange(_CHUNK, device=device) * _ODD) | 1


def _versions() -> dict[str, str]:
    # of what is installed, whatever a process has imported; distributions have several names
    # (mmcv, mmcv-lite)
    known = metadata.packages_distributions()
    found = {
        f'version of {name}': ' '.join(map(metadata.version, sorted(set(known[name]))))
        for name in PACKAGES
        if name in known
    } | {'version of torch': torch.__version__}  # with its build, such as +cu130
    code = hashlib.sha256()
    for path in sorted(_ROOT.rglob('*.py')):
        code.update(str(path.relative_to(_ROOT)).encode() + b'\0' + path.read_bytes())
    found['code of moca'] = code.hexdigest()[:12]
    return found


def _text(value: Any) -> str:
    """A value as text that does not depend on the process: no addresses, sets in order."""
    if isinstance(value, set | frozenset):
        value = sorted(map(repr, value))
    return re.sub(r' at 0x[0-9a-f]+', '', repr(value))


def _listed(lines: list[str]) -> str:
    more = f', and {len(lines) - _SHOWN} more' if len(lines) > _SHOWN else ''
    return '; '.join(lines[:_SHOWN]) + more
