"""A race: methods pre-train the same encoder on the same images for equally many steps."""

from __future__ import annotations

import graphlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.backbone import vit_dimensions
from moca.checkpoints.loading import AUTO
from moca.checkpoints.reading import read_file, run_config
from moca.engine.accumulate import number_of_parts
from moca.engine.amp import enable_amp, gpu_has_bfloat16
from moca.engine.checkpoints import latest_checkpoint
from moca.engine.cli import merge_options, parse_cfg_options
from moca.engine.config_check import check_config
from moca.errors import UserError
from moca.pretrain.data.sources import open_images
from moca.pretrain.monitors.knn import read_pair
from moca.pretrain.training.check import check_method
from moca.pretrain.training.config import pretraining_config
from moca.pretrain.training.schedule import check_options
from moca.records.run_logs import read_curves
from moca.results.options import check_owners, options_of
from moca.results.queue import Run

KNN = 'knn/'
"""How the curves of the k-NN monitor begin."""

# What a race must not differ in, and the option that sets it for all.
_EQUAL = {
    'train_cfg.max_epochs': '--epochs N',
    'train_dataloader.batch_size': '',
    'optim_wrapper.accumulative_counts': '',
    'train_dataloader.dataset.data_root': '--data-root DIR',
    'train_dataloader.dataset.limit': '',
    'model.backbone.arch': '',
    'model.backbone.img_size': '',
    'randomness.seed': '--seed N',
    'default_hooks.logger.interval': '',  # the table's losses are of its lines
}


@dataclass(frozen=True)
class Racer(Run):
    """One run of `tools/pretrain.py`.

    Attributes:
        checkpoint: what it leaves at its end.
        epochs: its length.
        watched: whether its k-NN accuracy is measured.
        teachers: files that it distils from.
        interval: steps from one line of its log to the next.
    """

    checkpoint: Path
    epochs: int
    watched: bool
    teachers: tuple[Path, ...] = ()
    interval: int = 10

    @property
    def needs(self) -> tuple[Path, ...]:
        """The work dirs of its teachers, which may be of this race."""
        return tuple(teacher.parent for teacher in self.teachers)

    @property
    def steps(self) -> int:
        """Return the number of optimizer steps that its checkpoint names.

        Raises:
            UserError: That is no checkpoint of a run.
        """
        meta = read_file(self.checkpoint, mapped=True).get('meta') or {}
        if 'iter' not in meta:
            raise UserError(f'{self.checkpoint}: no checkpoint of a run, which notes its steps.')
        return int(meta['iter'])

    @property
    def finished(self) -> bool:
        """Whether its checkpoint is there, with the log to it and its last k-NN accuracy."""
        try:
            if not self.checkpoint.is_file():
                return False
            curves = read_curves(self.folder)
            taken = self.steps
        except (OSError, UserError):  # as in a folder of another user
            return False
        if max(int(steps[-1]) for steps, _ in curves.values()) <= taken - self.interval:
            return False  # the log of a later start, which was stopped
        # which the monitor logs beside each accuracy
        steps, epochs = curves.get('epoch', ((-1,), (-1,)))
        measured = {int(curve[0][-1]) for name, curve in curves.items() if name.startswith(KNN)}
        last = bool(epochs[-1] >= self.epochs) and int(steps[-1]) in measured
        return last or not self.watched


@dataclass(frozen=True)
class RacePlan:
    """Who races, on what.

    Attributes:
        configs: of pre-training, such as ``configs/pretrain/mae_tiny-imagenet.py``.
        data_root: the images, the configs' own if None.
        knn, knn_val: labeled folders, as `tools/pretrain.py` takes them.
        arch: timm name of the encoder; the configs' own if None.
        epochs: how long; likewise.
        seed: of all random numbers; the configs' own if None.
        folder: work dirs are made in it, each named after its config.
        cfg_options: ``KEY=VALUE`` for all of them, ``CONFIG:KEY=VALUE`` for the one of that name.
        amp, accumulate, launcher: as `tools/pretrain.py` takes them.
        processes: of each run.
    """

    configs: Sequence[Path]
    data_root: str | None = None
    knn: str | None = None
    knn_val: str | None = None
    arch: str | None = None
    epochs: int | None = None
    seed: int | None = None
    folder: Path = Path('work_dirs/race')
    cfg_options: Sequence[str] = ()
    amp: bool = False
    accumulate: str | None = None
    launcher: str = 'none'
    processes: int = 1


def make_race(plan: RacePlan) -> list[Racer]:
    """The runs of a race, in the order of the plan, but teachers before their students.

    A method that distils from the work dir of another racer (``model.teachers.NAME.checkpoint``
    in a folder of that config's name) gets that racer's last checkpoint.

    Raises:
        UserError: if two configs have one name or teach each other; if configs, or what was run of
            them before, differ in the length of a run, its batch, images or encoder; if a teacher
            is neither a file nor a racer; if a folder cannot be read.
    """
    if plan.knn:
        read_pair(plan.knn, plan.knn_val)
    check_owners(plan.cfg_options, [path.stem for path in plan.configs], 'config of this race')
    configs = {path.stem: _config(path, plan) for path in plan.configs}
    if len(configs) < len(plan.configs):
        raise UserError('Two configs of a race have the same file name, and so one work dir.')
    earlier = {str(plan.folder / name): _earlier(plan.folder / name) for name in configs}
    ran = {folder: cfg for folder, cfg in earlier.items() if cfg is not None}
    _check_equal({name: cfg.to_dict() for name, cfg in configs.items()} | ran)
    images = _count_images(configs.values())
    sorter: graphlib.TopologicalSorter[str] = graphlib.TopologicalSorter()
    for name in configs:  # alone first: what may come in any order comes in the plan's
        sorter.add(name)
    for name, cfg in configs.items():
        sorter.add(name, *_set_teachers(cfg, configs, plan))
    for cfg in configs.values():
        files = [Path(each.checkpoint) for each in (cfg.model.get('teachers') or {}).values()]
        if all(file.is_file() for file in files):  # not before its teachers are trained
            check_method(cfg, plan.processes, images.get(_images_of(cfg)))
    try:
        order = list(sorter.static_order())
    except graphlib.CycleError as error:
        raise UserError(f'{" and ".join(error.args[1][1:])} are teachers of each other.') from error
    return [_racer(configs[name], plan) for name in order]


def _earlier(folder: Path) -> dict[str, Any] | None:
    """The config of the newest checkpoint in a work dir: that run is resumed, or is the result."""
    checkpoint = latest_checkpoint(folder)
    return None if checkpoint is None else run_config(read_file(checkpoint, mapped=True))


def _check_equal(configs: Mapping[str, Mapping[str, Any]]) -> None:
    """Verify that runs take equally many steps of equal batches of the same images.

    Args:
        configs: by config name, or by work dir for what was run before.

    Raises:
        UserError: naming the field in which they differ, with the value of each.
    """
    for field, option in _EQUAL.items():
        values = {name: _at(cfg, field) for name, cfg in configs.items()}
        first = next(iter(values.values()))
        if any(value != first for value in values.values()):
            found = ', '.join(f'{value} in {name}' for name, value in values.items())
            raise UserError(
                f'{field} is {found}: no race on equal terms. Give '
                f'{option or f"--cfg-options {field}=VALUE"}, or another --work-dir if an earlier '
                'run is in the way.'
            )


def _at(cfg: Mapping[str, Any], field: str) -> Any:
    """The value of a dotted field, None if it is not there."""
    value: Any = cfg
    for key in field.split('.'):
        value = (value or {}).get(key)
    return value


def _config(path: Path, plan: RacePlan) -> Config:
    """A config as `tools/pretrain.py` makes it of the racer's arguments."""
    if plan.arch == AUTO:
        raise UserError(f'--arch {AUTO}: a race has no checkpoint to take it of. Give a timm name.')
    cfg = pretraining_config(
        path,
        data_root=plan.data_root,
        arch=plan.arch,
        epochs=plan.epochs,
        knn=plan.knn,
        knn_val=plan.knn_val,
        seed=plan.seed,
    )
    options = parse_cfg_options(options_of([path.stem], plan.cfg_options))
    check_options(options)
    merge_options(cfg, options)
    check_config(cfg, source=str(path))
    vit_dimensions(cfg.model.backbone.arch)
    if plan.amp or gpu_has_bfloat16():  # as the run does
        enable_amp(cfg)
    if plan.accumulate:
        parts = number_of_parts(cfg, plan.accumulate, plan.processes)
        cfg.optim_wrapper.accumulative_counts = parts
    if not (cfg.get('default_hooks') or {}).get('checkpoint', {}).get('by_epoch', True):
        raise UserError(
            f'{path}: default_hooks.checkpoint.by_epoch=False. A race looks for epoch_N.pth; leave '
            'it as it is.'
        )
    return cfg


def _images_of(cfg: Config) -> tuple[str, int | None, str | None] | None:
    """What a config says of its images; None of another data set."""
    dataset = cfg.train_dataloader.dataset
    if dataset.type != 'UnlabeledImages':
        return None
    return str(dataset.data_root), dataset.get('limit'), dataset.get('members')


def _count_images(configs: Iterable[Config]) -> dict[Any, int]:
    """How many images there are of each kind that is named; none is searched twice."""
    return {each: len(open_images(*each)) for each in {_images_of(cfg) for cfg in configs} if each}


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
            if plan.arch:
                teacher.arch = plan.arch
            teacher.checkpoint = str(_checkpoint(configs[racer], plan))
        elif not file.is_file():
            raise UserError(
                f'{cfg.filename}: model.teachers.{name}.checkpoint={file} is no file, and no '
                'config of this race makes it. Add the one that does, or name a file there.'
            )
    return found


def _checkpoint(cfg: Config, plan: RacePlan) -> Path:
    return plan.folder / Path(cfg.filename).stem / f'epoch_{cfg.train_cfg.max_epochs}.pth'


def _racer(cfg: Config, plan: RacePlan) -> Racer:
    name = Path(cfg.filename).stem
    arguments = [str(cfg.filename), '--resume', '--work-dir', str(plan.folder / name)]
    for option, value in (
        ('--data-root', plan.data_root),
        ('--arch', plan.arch),
        ('--epochs', plan.epochs),
        ('--seed', plan.seed),
        ('--knn', plan.knn),
        ('--knn-val', plan.knn_val),
    ):
        if value is not None:
            arguments += [option, str(value)]
    teachers = cfg.model.get('teachers') or {}
    taught = [f'model.teachers.{key}.checkpoint={t.checkpoint}' for key, t in teachers.items()]
    if plan.arch:  # of those that race as well
        same = [key for key, teacher in teachers.items() if teacher.arch == plan.arch]
        taught += [f'model.teachers.{key}.arch={plan.arch}' for key in same]
    if settings := [*options_of([name], plan.cfg_options), *taught]:
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
        epochs=cfg.train_cfg.max_epochs,
        watched=plan.knn is not None,
        teachers=tuple(Path(teacher.checkpoint) for teacher in teachers.values()),
        interval=((cfg.get('default_hooks') or {}).get('logger') or {}).get('interval', 10),
    )
