"""A race: methods pre-train the same encoder on the same pictures for equally many steps."""

from __future__ import annotations

import graphlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from mmengine.config import Config

from moca.engine.launch import merge_options, parse_cfg_options, read_config
from moca.errors import UserError
from moca.evaluation.knn import monitor_knn, read_pair
from moca.evaluation.pieces import read_curves
from moca.evaluation.queue import Run
from moca.pretrain.schedules import set_epochs

KNN = 'knn/'
"""How the curves of the k-NN monitor begin."""

# What a race must not differ in, beside what its command line gives to all.
_EQUAL = {
    'train_cfg.max_epochs': lambda cfg: cfg.train_cfg.max_epochs,
    'train_dataloader.batch_size': lambda cfg: cfg.train_dataloader.batch_size,
    'model.backbone.arch': lambda cfg: cfg.model.backbone.arch,
    'model.backbone.img_size': lambda cfg: cfg.model.backbone.get('img_size', 224),
}


@dataclass(frozen=True)
class Racer(Run):
    """One run of `tools/pretrain.py`.

    Attributes:
        checkpoint: what it leaves at its end.
        watched: whether its k-NN accuracy is measured.
    """

    checkpoint: Path
    watched: bool

    @property
    def finished(self) -> bool:
        """Whether its checkpoint is there, and its last k-NN accuracy."""
        if not self.checkpoint.is_file():
            return False
        curves = read_curves(self.folder)
        last = int(curves['loss'][0][-1])
        return not self.watched or any(
            int(steps[-1]) >= last for name, (steps, _) in curves.items() if name.startswith(KNN)
        )


@dataclass(frozen=True)
class RacePlan:
    """Who races, on what.

    Attributes:
        configs: of pre-training, such as ``configs/pretrain/mae_tiny-imagenet.py``.
        data_root: the pictures, the configs' own if None.
        knn, knn_val: labelled folders, as `tools/pretrain.py` takes them.
        epochs: how long; the configs' own if None.
        folder: work dirs are made in it, each named after its config.
        options: further arguments of `tools/pretrain.py`, such as ``--amp``.
        cfg_options: ``KEY=VALUE`` for all of them.
    """

    configs: Sequence[Path]
    data_root: str | None = None
    knn: str | None = None
    knn_val: str | None = None
    epochs: int | None = None
    folder: Path = Path('work_dirs/race')
    options: Sequence[str] = ()
    cfg_options: Sequence[str] = ()


def make_race(plan: RacePlan) -> list[Racer]:
    """The runs of a race, in the order of the plan, but teachers before their students.

    A method that distils from the work dir of another racer (``model.teachers.NAME.checkpoint``
    in a folder of that config's name) gets that racer's last checkpoint.

    Raises:
        UserError: if two configs have one name, differ in the length of a run, its batch or the
            encoder, teach each other, or a folder cannot be read.
    """
    configs = {path.stem: read_config(path) for path in plan.configs}
    if len(configs) < len(plan.configs):
        raise UserError('Two configs of a race have the same file name, and so one work dir.')
    for name, cfg in configs.items():
        if plan.epochs is not None:
            set_epochs(cfg, plan.epochs)
        if plan.knn:
            monitor_knn(cfg, plan.knn, plan.knn_val)
        merge_options(cfg, parse_cfg_options(plan.cfg_options))
        _check_folder(plan.folder / name, cfg)
    _check_equal(configs)
    if plan.knn:
        read_pair(plan.knn, plan.knn_val)
    teachers = {name: _teachers(cfg, configs) for name, cfg in configs.items()}
    try:
        order = list(
            graphlib.TopologicalSorter(
                {name: found.values() for name, found in teachers.items()}
            ).static_order()
        )
    except graphlib.CycleError as error:
        raise UserError(f'{" and ".join(error.args[1][1:])} are teachers of each other.') from error
    return [_racer(name, configs[name], teachers[name], plan) for name in order]


def _check_folder(folder: Path, cfg: Config) -> None:
    """Going on with a run of another length would be neither that run nor this one."""
    dumped = folder / Path(cfg.filename).name
    if dumped.is_file():
        found, wanted = read_config(dumped).train_cfg.max_epochs, cfg.train_cfg.max_epochs
        if found != wanted:
            raise UserError(
                f'{folder} has a run of {found} epochs, not {wanted}. Give another --work-dir, or '
                f'--epochs {found}.'
            )


def _check_equal(configs: dict[str, Config]) -> None:
    for name, read in _EQUAL.items():
        values = {config: read(cfg) for config, cfg in configs.items()}
        if len(set(values.values())) > 1:
            found = ', '.join(f'{value} in {config}' for config, value in values.items())
            raise UserError(
                f'{name} is {found}: no race on equal terms. '
                f'Give --cfg-options {name}=VALUE{" or --epochs" if "epochs" in name else ""}.'
            )


def _teachers(cfg: Config, configs: dict[str, Config]) -> dict[str, str]:
    """Which racer is which teacher of a config, by the teacher's name."""
    found = {}
    for name, teacher in (cfg.model.get('teachers') or {}).items():
        racer = Path(teacher.get('checkpoint') or '').parent.name
        if racer in configs:
            found[name] = racer
    return found


def _racer(name: str, cfg: Config, teachers: dict[str, str], plan: RacePlan) -> Racer:
    def checkpoint(of: str) -> Path:
        return plan.folder / of / f'epoch_{cfg.train_cfg.max_epochs}.pth'

    arguments = [str(cfg.filename), '--resume', '--work-dir', str(plan.folder / name)]
    for option, value in (
        ('--data-root', plan.data_root),
        ('--epochs', plan.epochs),
        ('--knn', plan.knn),
        ('--knn-val', plan.knn_val),
    ):
        if value is not None:
            arguments += [option, str(value)]
    taught = [
        f'model.teachers.{teacher}.checkpoint={checkpoint(racer)}'
        for teacher, racer in teachers.items()
    ]
    if settings := [*plan.cfg_options, *taught]:
        arguments += ['--cfg-options', *settings]
    return Racer(
        title=name,
        folder=plan.folder / name,
        arguments=(*arguments, *plan.options),
        checkpoint=checkpoint(name),
        watched=plan.knn is not None,
    )
