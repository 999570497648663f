"""A race: methods pre-train the same encoder on the same pictures for equally many steps."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.backbone import vit_dimensions
from moca.engine.accumulate import set_accumulation
from moca.engine.amp import enable_amp, gpu_has_bfloat16
from moca.engine.config_check import check_config
from moca.engine.launch import merge_options, parse_cfg_options, read_config
from moca.errors import UserError
from moca.evaluation.knn import read_pair
from moca.evaluation.pieces import read_curves
from moca.evaluation.pretraining import pretraining_config
from moca.evaluation.queue import Run
from moca.pretrain.data import check_data_root

KNN = 'knn/'
"""How the curves of the k-NN monitor begin."""

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


@dataclass(frozen=True)
class Racer(Run):
    """One run of `tools/pretrain.py`.

    Attributes:
        checkpoint: what it leaves at its end.
        watched: whether its k-NN accuracy is measured.
        teachers: files that it distils from.
    """

    checkpoint: Path
    watched: bool
    teachers: tuple[Path, ...] = ()

    @property
    def finished(self) -> bool:
        """Whether its checkpoint is there, and its last k-NN accuracy."""
        if not self.checkpoint.is_file():
            return False
        try:
            curves = read_curves(self.folder)
        except UserError:
            return False
        if 'loss' not in curves:
            return False
        last = curves['loss'][0][-1]
        return not self.watched or any(
            steps[-1] >= last for name, (steps, _) in curves.items() if name.startswith(KNN)
        )


@dataclass(frozen=True)
class RacePlan:
    """Who races, on what.

    Attributes:
        configs: of pre-training, such as ``configs/pretrain/mae_tiny-imagenet.py``.
        data_root: the pictures, the configs' own if None.
        knn, knn_val: labelled folders, as `tools/pretrain.py` takes them.
        epochs: how long; the configs' own if None.
        seed: of all random numbers; the configs' own if None.
        folder: work dirs are made in it, each named after its config.
        cfg_options: ``KEY=VALUE`` for all of them.
        amp, accumulate: as `tools/pretrain.py` takes them.
    """

    configs: Sequence[Path]
    data_root: str | None = None
    knn: str | None = None
    knn_val: str | None = None
    epochs: int | None = None
    seed: int | None = None
    folder: Path = Path('work_dirs/race')
    cfg_options: Sequence[str] = ()
    amp: bool = False
    accumulate: str | None = None


def make_race(plan: RacePlan) -> list[Racer]:
    """The runs of a race, in the order of the plan, but teachers before their students.

    A method that distils from the work dir of another racer (``model.teachers.NAME.checkpoint``
    in a folder of that config's name) gets that racer's last checkpoint.

    Raises:
        UserError: if two configs have one name, differ in the length of a run, its batch, pictures
            or encoder, or teach each other; if a teacher is neither a file nor a racer; if a folder
            cannot be read, or holds another run.
    """
    if plan.knn:
        read_pair(plan.knn, plan.knn_val)
    if plan.data_root:
        check_data_root(plan.data_root)
    configs = {path.stem: _config(path, plan) for path in plan.configs}
    if len(configs) < len(plan.configs):
        raise UserError('Two configs of a race have the same file name, and so one work dir.')
    _check_equal(configs)
    graph: dict[str, list[str]] = {}
    for name, cfg in configs.items():
        graph[name] = _set_teachers(cfg, configs, plan)
        _check_folder(plan.folder / name, cfg, plan)
    try:
        order = list(graphlib.TopologicalSorter(graph).static_order())
    except graphlib.CycleError as error:
        raise UserError(f'{" and ".join(error.args[1][1:])} are teachers of each other.') from error
    return [_racer(configs[name], plan) for name in order]


def _config(path: Path, plan: RacePlan) -> Config:
    """A config as `tools/pretrain.py` makes it of the racer's arguments."""
    cfg = pretraining_config(
        path,
        data_root=plan.data_root,
        epochs=plan.epochs,
        knn=plan.knn,
        knn_val=plan.knn_val,
        seed=plan.seed,
    )
    merge_options(cfg, parse_cfg_options(plan.cfg_options))
    check_config(cfg, source=str(path))
    vit_dimensions(cfg.model.backbone.arch)
    if plan.amp or gpu_has_bfloat16():  # as the run does
        enable_amp(cfg)
    if plan.accumulate and plan.accumulate.isdecimal():  # of auto only the run itself knows
        set_accumulation(cfg, plan.accumulate)
    if not (cfg.get('default_hooks') or {}).get('checkpoint', {}).get('by_epoch', True):
        raise UserError(
            f'{path}: default_hooks.checkpoint.by_epoch=False. A race looks for epoch_N.pth; leave '
            'it as it is.'
        )
    return cfg


def _at(cfg: Config, field: str) -> Any:
    """The value of a dotted field, None if it is not there; plain dicts and lists."""
    value: Any = cfg.to_dict()
    for key in field.split('.'):
        value = (value or {}).get(key)
    return value


def _check_equal(configs: dict[str, Config]) -> None:
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


def _set_teachers(cfg: Config, configs: dict[str, Config], plan: RacePlan) -> list[str]:
    """Let racers that are a config's teachers hand over their checkpoints; returns their names.

    Raises:
        UserError: another teacher's file is not there.
    """
    found = []
    for name, teacher in (cfg.model.get('teachers') or {}).items():
        file = Path(teacher.get('checkpoint') or '')
        racer = file.parent.name
        if racer in configs:
            found.append(racer)
            teacher.checkpoint = str(_checkpoint(configs[racer], plan))
        elif not file.is_file():
            raise UserError(
                f'{cfg.filename}: model.teachers.{name}.checkpoint={file} is no file, and no '
                'config of this race makes it. Add the one that does, or name a file there.'
            )
    return found


def _checkpoint(cfg: Config, plan: RacePlan) -> Path:
    return plan.folder / Path(cfg.filename).stem / f'epoch_{cfg.train_cfg.max_epochs}.pth'


def _check_folder(folder: Path, cfg: Config, plan: RacePlan) -> None:
    """Another run's steps would be neither that run nor this one, nor its result this one's."""
    dumped = folder / Path(cfg.filename).name
    if not dumped.is_file():
        return
    earlier = read_config(dumped)
    for field in _SAME:
        if field == 'optim_wrapper.accumulative_counts' and plan.accumulate == 'auto':
            continue
        found, wanted = _at(earlier, field), _at(cfg, field)
        if found != wanted:
            plain = not isinstance(found or wanted, dict | list)
            values = f'{found}, not {wanted}' if plain else 'another'
            raise UserError(
                f'{folder} has a run whose {field} is {values}. Give another --work-dir, or the '
                'arguments of that run.'
            )


def _racer(cfg: Config, plan: RacePlan) -> Racer:
    name = Path(cfg.filename).stem
    arguments = [str(cfg.filename), '--resume', '--work-dir', str(plan.folder / name)]
    for option, value in (
        ('--data-root', plan.data_root),
        ('--epochs', plan.epochs),
        ('--seed', plan.seed),
        ('--knn', plan.knn),
        ('--knn-val', plan.knn_val),
    ):
        if value is not None:
            arguments += [option, str(value)]
    teachers = cfg.model.get('teachers') or {}
    taught = [f'model.teachers.{key}.checkpoint={t.checkpoint}' for key, t in teachers.items()]
    if settings := [*plan.cfg_options, *taught]:
        arguments += ['--cfg-options', *settings]
    if plan.amp:
        arguments += ['--amp']
    if plan.accumulate:
        arguments += ['--accumulate', plan.accumulate]
    return Racer(
        title=name,
        folder=plan.folder / name,
        arguments=tuple(arguments),
        checkpoint=_checkpoint(cfg, plan),
        watched=plan.knn is not None,
        teachers=tuple(Path(teacher.checkpoint) for teacher in teachers.values()),
    )
