"""The terms of a race: what its runs have in common, and what a run in its folder must have had."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.checkpoints.reading import read_file, run_config
from moca.engine.checkpoints import latest_checkpoint
from moca.engine.hooks import named_hooks
from moca.engine.work_dir import changed_fields
from moca.errors import UserError

# What a race must not differ in.
_EQUAL = (
    'train_cfg.max_epochs',
    'train_dataloader.batch_size',
    'optim_wrapper.accumulative_counts',
    'train_dataloader.dataset.data_root',
    'train_dataloader.dataset.limit',
    'model.backbone.arch',
    'model.backbone.img_size',
    'randomness.seed',
    'default_hooks.logger.interval',  # the table's losses are of its lines
)
# What an earlier run in the folder must have had to be gone on with, or to pass for this one.
_SAME = (
    *_EQUAL,
    'train_dataloader.dataset',
    'model',
    'optim_wrapper.type',
    'optim_wrapper.optimizer',
    'optim_wrapper.paramwise_cfg',
    'optim_wrapper.clip_grad',
    'hooks',
)


def check_equal(configs: Mapping[str, Config]) -> None:
    """Verify that runs take equally many steps of equal batches of the same images.

    Args:
        configs: by name.

    Raises:
        UserError: naming the field in which they differ, with the value of each.
    """
    for field in _EQUAL:
        values = {name: _at(cfg.to_dict(), field) for name, cfg in configs.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            found = ', '.join(f'{value} in {name}' for name, value in values.items())
            option = {
                'train_cfg.max_epochs': '--epochs N',
                'train_dataloader.dataset.data_root': '--data-root DIR',
                'randomness.seed': '--seed N',
            }.get(field, f'--cfg-options {field}=VALUE')
            raise UserError(f'{field} is {found}: no race on equal terms. Give {option}.')


def check_names(cfg_options: Sequence[str], names: Sequence[str]) -> None:
    """Verify that every ``CONFIG:KEY=VALUE`` is of a config that races.

    Args:
        cfg_options: as the command line has them.
        names: of the configs.

    Raises:
        UserError: naming the option.
    """
    for option in cfg_options:
        name = _owner(option)
        if name and name not in names:
            raise UserError(
                f'--cfg-options {option}: no config of this race is called {name!r}, they are '
                f'{", ".join(names)}.'
            )


def options_of(name: str, cfg_options: Sequence[str]) -> list[str]:
    """The ``KEY=VALUE`` of one config: those of all first, so that its own win."""
    own = [option.removeprefix(f'{name}:') for option in cfg_options if _owner(option) == name]
    return [*(option for option in cfg_options if not _owner(option)), *own]


def _owner(option: str) -> str:
    return option.partition('=')[0].rpartition(':')[0]


def check_folder(folder: Path, cfg: Config, unknown: Collection[str] = ()) -> None:
    """Verify that the newest checkpoint of a work dir is of the run that is to be there.

    Otherwise it would be gone on with, or pass for this run's result.

    Args:
        folder: the work dir; may be missing.
        cfg: of the run that is to be there.
        unknown: fields that only the run itself finds out.

    Raises:
        UserError: naming the fields that differ.
    """
    checkpoint = latest_checkpoint(folder)
    if checkpoint is None:
        return  # nothing there to go on with: it failed or was stopped at once
    # not the config that mmengine leaves in the folder, which a later start replaces at once
    earlier = run_config(read_file(checkpoint, mapped=True))
    before, now = (
        {field: _absolute(_at(each, field)) for field in _SAME if field not in unknown}
        for each in (earlier, cfg.to_dict())
    )
    if changes := changed_fields(before, now):
        raise UserError(
            f'{folder} has a checkpoint of a run of other settings, {checkpoint.name}: '
            f'{", ".join(changes[:3])}. Give another --work-dir, or the arguments of that run.'
        )


def _absolute(value: Any) -> Any:
    """The same with all paths in full: a folder may be named from here or from the root."""
    if isinstance(value, dict):
        return {key: _absolute(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_absolute(each) for each in value]
    if isinstance(value, str) and (os.sep in value or os.path.exists(value)):
        return os.path.abspath(value)
    return value


def _at(cfg: Mapping[str, Any], field: str) -> Any:
    """The value of a dotted field, None if it is not there."""
    if field == 'hooks':  # a first start from a released file has one more
        hooks = (hook for _, hook in named_hooks(cfg))
        return {hook['type']: hook for hook in hooks if hook['type'] != 'ReleasedNames'}
    value: Any = cfg
    for key in field.split('.'):
        value = (value or {}).get(key)
    return value
