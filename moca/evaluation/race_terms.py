"""The terms of a race: what its runs have in common, and what a run in its folder must have had."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.engine.checkpoints import run_checkpoints
from moca.engine.launch import read_config
from moca.engine.resumed import changed_fields
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
    'default_hooks.logger.interval',  # steps are counted by the log
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
    'custom_hooks',
)


def check_equal(configs: Mapping[str, Config]) -> None:
    """Verify that runs take equally many steps of equal batches of the same pictures.

    Args:
        configs: by name.

    Raises:
        UserError: naming the field in which they differ, with the value of each.
    """
    for field in _EQUAL:
        values = {name: _at(cfg, field) for name, cfg in configs.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            found = ', '.join(f'{value} in {name}' for name, value in values.items())
            option = {
                'train_cfg.max_epochs': '--epochs N',
                'train_dataloader.dataset.data_root': '--data-root DIR',
                'randomness.seed': '--seed N',
            }.get(field, f'--cfg-options {field}=VALUE')
            raise UserError(f'{field} is {found}: no race on equal terms. Give {option}.')


def check_folder(folder: Path, cfg: Config, unknown: Collection[str] = ()) -> None:
    """Verify that what is in a work dir is of the run that is to be there.

    Otherwise it would be gone on with, or pass for this run's result.

    Args:
        folder: the work dir; may be missing.
        cfg: of the run that is to be there.
        unknown: fields that only the run itself finds out.

    Raises:
        UserError: naming the fields that differ.
    """
    dumped = folder / Path(cfg.filename).name
    if not dumped.is_file() or not run_checkpoints(folder):
        return  # nothing there to go on with: it failed or was stopped at once
    earlier = read_config(dumped)
    before, now = (
        {field: _absolute(_at(each, field)) for field in _SAME if field not in unknown}
        for each in (earlier, cfg)
    )
    if changes := changed_fields(before, now):
        raise UserError(
            f'{folder} has a run of other settings: {", ".join(changes[:3])}. Give another '
            '--work-dir, or the arguments of that run.'
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


def _at(cfg: Config, field: str) -> Any:
    """The value of a dotted field, None if it is not there; plain dicts and lists."""
    value: Any = cfg.to_dict()
    for key in field.split('.'):
        value = (value or {}).get(key)
    return value
