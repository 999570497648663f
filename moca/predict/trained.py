"""What was trained, from wherever it lies: a run's folder, its checkpoint, or a published file."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config, ConfigDict
from mmengine.logging import print_log
from mmengine.model import BaseTTAModel
from mmengine.registry import DATASETS, MODELS, DefaultScope

from moca.checkpoints.loading import AUTO, set_checkpoint
from moca.checkpoints.reading import read_file, run_config
from moca.data.config_datasets import leaf_datasets, nested_dicts
from moca.engine.checkpoints import latest_checkpoint
from moca.engine.cli import read_config
from moca.engine.devices import checked_device
from moca.errors import UserError
from moca.figures import distinct_colors
from moca.predict.stored_config import import_stored
from moca.transfer.evaluate import load_run, run_weights, set_published_model, take_from_run
from moca.transfer.overrides import set_arch
from moca.transfer.predictions import label_values
from moca.transfer.protocol import read_by_one_reader
from moca.transfer.run import model_class
from moca.transfer.tta import set_tta

_LABELS = ('Annotations', 'LoadPanopticMasks')
"""What the names of steps end in that read labels."""


@dataclass(frozen=True)
class Trained:
    """A model with its weights, in eval mode, and what its config says of its data.

    Attributes:
        cfg: The config, as it predicts.
        checkpoint: The file of the weights.
        model: On the device that it is to run on.
        classes: Names of the classes; none of depth.
        palette: RGB in 0..255 of each class.
        things: How many of the classes, the first ones, are of things (panoptic segmentation).
        values: Of each class in the data set's label maps; None for the numbers of the classes.
    """

    cfg: Config
    checkpoint: Path
    model: Any
    classes: tuple[str, ...]
    palette: Sequence[Sequence[float]]
    things: int
    values: tuple[int, ...] | None

    @property
    def task(self) -> str:
        """What is predicted: segmentation, detection, panoptic, depth or image."""
        if (self.cfg.model.get('test_cfg') or {}).get('panoptic_on'):
            return 'panoptic'
        return str(self.cfg.protocol.task)

    @property
    def dataset(self) -> dict[str, Any]:
        """Config of the data set whose images are read as these are to be."""
        return test_dataset(self.cfg)

    @property
    def seen(self) -> str | None:
        """What the network sees at a time, in words; None where images keep their own size."""
        test = self.cfg.model.get('test_cfg') or {}
        window = test.get('crop_size') if test.get('mode') == 'slide' else test.get('size')
        if window is not None:
            return f'windows of {_sides(window)} pixels'
        if (side := self.dataset.get('size')) is not None:
            return f'images at {_sides(side)} pixels'
        for step in self.dataset.get('pipeline', ()):
            if str(step['type']).endswith('Resize') and step.get('scale'):
                width, height = step['scale']
                how = 'within' if step.get('keep_ratio') else 'at'
                return f'images {how} {width} x {height} pixels'
        return None

    def scope(self) -> AbstractContextManager[Any]:
        """In which names are looked up as the config means them, mmseg's or mmdet's."""
        scope = self.cfg.get('default_scope', 'mmengine')
        found: AbstractContextManager[Any] = DefaultScope.overwrite_default_scope(scope)
        return found


def find_trained(
    source: str | Path, config: str | Path | None = None
) -> tuple[Config, Path, dict[str, Any]]:
    """Find the config and the checkpoint of a run.

    Args:
        source: The run's folder, of which the newest intact checkpoint is taken, or a checkpoint.
        config: A config instead of the one that lies in the folder or in the checkpoint.

    Returns:
        The config, the checkpoint, and what that holds.

    Raises:
        UserError: One of them is missing, it cannot be said which config is meant, or the one in
            the checkpoint names what is no component.
    """
    path = Path(source)
    if path.suffix == '.py':
        raise UserError(f'{path}: a config alone. Give a checkpoint too, or the folder of a run.')
    configs = [Path(config)] if config is not None else []
    if path.is_dir() and not (path / 'config.json').is_file():  # that is a folder of transformers
        folder, found = path, latest_checkpoint(path)
        if found is None:
            raise UserError(
                f'{folder}: no checkpoint in there (epoch_N.pth or iter_N.pth). Name the folder of '
                'a run of tools/train.py, or a checkpoint.'
            )
        path, configs = found, configs or sorted(folder.glob('*.py'))
    elif not path.exists():
        raise UserError(f'{path}: no such file or folder. Name a run, or a checkpoint.')
    content = dict(read_file(path))
    own = run_config(content)
    if len(configs) == 1:
        return read_config(configs[0]), path, content
    if not own:
        raise UserError(
            f'{path}: the file does not say its config. Give the config that it was trained with '
            'as well (CONFIG CHECKPOINT; config= in Python).'
        )
    cfg = Config(own)
    import_stored(cfg, path)
    return cfg, path, content


def load_trained(
    source: str | Path,
    config: str | Path | None = None,
    *,
    arch: str | None = None,
    device: str | torch.device | None = None,
    tta: bool = False,
    window: int | None = None,
) -> Trained:
    """Load a model with its weights; its data need not be there.

    Args:
        source: As for `find_trained`, or a published mask transformer (EoMT).
        config: As for `find_trained`; a published file needs one.
        arch: Of a published file, whose config has another one; ``auto`` for that of the file.
        device: To run on; a GPU by default if there is one.
        tta: Average over the scales and flips of the config's ``tta``.
        window: Side in pixels of the sliding window, in the place of the config's.

    Raises:
        UserError: Something is missing, the weights are of another model than the config, or an
            option is not for this model.
    """
    where = checked_device(device)
    cfg, path, content = find_trained(source, config)
    task = (cfg.get('protocol') or {}).get('task')
    if task == 'image':
        import moca.evaluation.classification  # noqa: F401  (registers them)
    elif task not in ('segmentation', 'detection', 'depth'):
        raise UserError(
            f'{config or path}: no run that predicts anything of images (its task is {task!r}). '
            'moca.backbone gives the features of a backbone.'
        )
    read_by_one_reader(cfg)
    cfg.load_from, cfg.resume = None, False
    if not cfg.get('test_dataloader') and cfg.get('val_dataloader'):
        cfg.test_dataloader = cfg.val_dataloader
    with DefaultScope.overwrite_default_scope(cfg.get('default_scope', 'mmengine')):
        run = run_config(content)
        published = not run and hasattr(model_class(cfg), 'set_published')
        published = published and not _is_state(content)
        if published:
            if arch not in (None, AUTO):
                set_arch(cfg, arch)
            set_published_model(cfg, str(path), arch=arch)
        else:
            if arch:
                raise UserError(
                    f'--arch {arch}: of published models, and {path} is none: its architecture is '
                    'that of its config. Leave it out.'
                )
            run_weights(content, path)
            set_checkpoint(cfg, None)
            take_from_run(cfg, run)
        names, palette, things = _classes(cfg, content)
        values = label_values(cfg, 'test') if task == 'segmentation' else None
        dataset = test_dataset(cfg)
        if 'pipeline' in dataset:
            steps = dataset['pipeline']
            dataset['pipeline'] = [s for s in steps if not str(s['type']).endswith(_LABELS)]
        if window is not None:
            set_window(cfg, window)
        if tta:
            set_tta(cfg)
        with warnings.catch_warnings():  # of a loss, and of an output that is trained already
            for text in ('Default ``avg_non_ignore`` is False', 'For binary segmentation'):
                warnings.filterwarnings('ignore', text)
            model = MODELS.build(cfg.model)
        if published:
            (model.module if isinstance(model, BaseTTAModel) else model).init_weights()
        else:
            load_run(model, path)
    whole = cfg.model.module if 'module' in cfg.model else cfg.model
    cfg.model = whole  # what `Trained.task` asks
    return Trained(
        *(cfg, path, model.to(where).eval(), names, palette, things),
        None if values is None else tuple(values),
    )


def _sides(size: int | Sequence[int]) -> str:
    """Width and height, of the height and width that a config gives, or of one for both."""
    height, width = (size, size) if isinstance(size, int) else size
    return f'{width} x {height}'


def _is_state(content: dict[str, Any]) -> bool:
    """Whether these are a whole model's weights under our names; published files have others."""
    state = content.get('state_dict')
    places = ('backbone.', 'network.backbone.')
    return isinstance(state, dict) and any(str(key).startswith(places) for key in state)


def test_dataset(cfg: Config) -> dict[str, Any]:
    """The config of the test set, of the first one where there are several.

    Raises:
        UserError: There is none.
    """
    if not (loader := cfg.get('test_dataloader')):
        raise UserError(
            f'{cfg.filename}: neither test_dataloader nor val_dataloader, which say how images are '
            'read. Add one of them.'
        )
    found: dict[str, Any] = leaf_datasets(loader['dataset'])[0]
    return found


def set_window(cfg: Config, side: int) -> None:
    """Slide square windows over images, with as large an overlap as the config's.

    Without windows in the config the step is two thirds of the side, as 341 of 512 pixels in
    mmseg's configs of ViTs.

    Args:
        cfg: Of a segmentor; changed.
        side: In pixels.

    Raises:
        UserError: The model has no windows, or only those that it was trained with.
    """
    test = cfg.model.get('test_cfg') or {}
    if cfg.protocol.task != 'segmentation' or 'size' in test:
        why = (
            'the windows of a mask transformer are as large as its training images'
            if 'size' in test
            else f'a model of {cfg.protocol.task} has no windows'
        )
        raise UserError(f'--window {side}: {why}. Leave it out.')
    if side < 1:
        raise UserError(f'--window {side}: give a side in pixels, from 1 up.')
    share = 2 / 3
    if test.get('mode') == 'slide':
        share = min(test['stride']) / min(test['crop_size'])
    step = max(round(side * share), 1)
    slide = dict(mode='slide', crop_size=(side, side), stride=(step, step))
    cfg.model.test_cfg = ConfigDict({**test, **slide})


def _classes(
    cfg: Config, content: dict[str, Any]
) -> tuple[tuple[str, ...], Sequence[Sequence[float]], int]:
    """Names and colors, and how many are of things: the checkpoint's own, or the data set's."""
    if cfg.protocol.task == 'depth':
        return (), (), 0
    count, things = number_of_classes(cfg.model)
    about = dict((content.get('meta') or {}).get('dataset_meta') or {})
    noted = bool(about.get('classes'))
    if not about.get('classes') and cfg.protocol.task != 'image':
        about = dict(DATASETS.build({**test_dataset(cfg), 'lazy_init': True}).metainfo)
    names = tuple(map(str, about.get('classes') or ()))
    if things:
        own = (*(about.get('thing_classes') or ()), *(about.get('stuff_classes') or ()))
        names = tuple(map(str, own or names))
    if not names:
        print_log(
            f'Neither the checkpoint nor the data set knows the names of the {count} classes: they '
            'are called by their numbers. metainfo=dict(classes=...) of the data set names them.',
            'current',
            level=30,
        )
        names = tuple(f'class {number}' for number in range(count))
    if len(names) != count:
        of = cfg.filename or 'the config in the checkpoint'
        raise UserError(
            f'{of}: a model of {count} classes, and the checkpoint is of a model of {len(names)}. '
            'Give the config that it was trained with.'
            if noted
            else f'{of}: a model of {count} classes, and {len(names)} names. Give '
            'metainfo=dict(classes=...) of the data set.'
        )
    palette = about.get('palette') or ()
    return names, palette if len(palette) >= count else distinct_colors(count), things


def number_of_classes(model: dict[str, Any]) -> tuple[int, int]:
    """How many classes the head of a model's config has, and how many of them are things."""
    for part in nested_dicts(model):
        if 'num_stuff_classes' in part or 'num_things_classes' in part:
            things = int(part.get('num_things_classes') or 0)
            return things + int(part.get('num_stuff_classes') or 0), things
        if isinstance(part.get('num_classes'), int):
            return int(part['num_classes']), 0
    raise UserError('model: no head with num_classes. Name the config that the run was made with.')
