"""Checks of a protocol's config as a whole: what OpenMMLab would take and then do wrong.

Each has cost somebody a table: mixed precision that is not on, a backbone that a checkpoint does
not fit, heads of another number of classes than the data, labels that reach the loss unchecked.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import mmseg.datasets
import mmseg.registry
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import MODELS

from moca.backbone.vit import PlainViT
from moca.data.classes import class_names
from moca.data.config_datasets import depth_datasets, nested_dicts, segmentation_datasets
from moca.data.pairs import has_labels
from moca.errors import UserError
from moca.segmentation.label_maps import IGNORE, ONE_CLASS
from moca.transfer.predictions import set_predictions

# mmseg's and mmdet's, which know backbones by the name of their class and reject any other.
_BY_CLASS_NAME = ('LearningRateDecayOptimizerConstructor', 'LayerDecayOptimizerConstructor')

# Fields of mmcv 1, which mmengine takes without a word and nothing reads.
_DEAD_FIELDS = {
    'fp16': 'mixed precision is --amp',
    'lr_config': 'schedules are param_scheduler',
    'optimizer_config': 'gradients are clipped and accumulated by optim_wrapper',
    'runner': 'the length of a run is train_cfg.max_iters',
    'total_iters': 'the length of a run is train_cfg.max_iters',
    'checkpoint_config': 'checkpoints are default_hooks.checkpoint',
    'evaluation': 'validation is train_cfg.val_interval and val_evaluator',
}


def check_protocol(cfg: Config) -> None:
    """Check a downstream config, and have its label maps checked as they are loaded.

    Changes the config in two ways: mmseg's `LoadAnnotations` becomes `LoadCheckedAnnotations`, and
    mmcv's `LoadImageFromFile` becomes `LoadReadableImage`.

    Raises:
        UserError: naming the field that is wrong, and what to write instead.
    """
    for field, remedy in _DEAD_FIELDS.items():
        if cfg.get(field) is not None and not _is_ours(field, cfg[field]):
            raise UserError(
                f'{cfg.filename}: {field} is a field of mmcv 1 that nothing reads any more; '
                f'{remedy}. Remove it ({field}=None where a base has it).'
            )
    _check_backbone(cfg)
    constructor = (cfg.get('optim_wrapper') or {}).get('constructor')
    if constructor in _BY_CLASS_NAME:
        raise UserError(
            f'{cfg.filename}: optim_wrapper.constructor={constructor!r} finds the depth of a layer '
            "by the name of the backbone's class and does not know PlainViT. Use "
            "constructor='LayerDepthOptimWrapperConstructor' with "
            'paramwise_cfg=dict(layer_decay=0.65).'
        )
    read_by_one_reader(cfg)
    if cfg.protocol.task == 'segmentation':
        check_segmentation(cfg)
        set_predictions(cfg)
    if cfg.protocol.task == 'depth':
        check_depth_padding(cfg)


def check_depth_padding(cfg: Config) -> None:
    """Check that images with depth are padded with 0, which is no depth, and say of other sizes.

    Raises:
        UserError: naming the field that pads with another value, such as mmseg's 255 (meters).
    """
    fields = {'model.data_preprocessor': cfg.model.get('data_preprocessor') or {}}
    for field, dataset, _ in depth_datasets(cfg):
        if field.startswith('train'):
            _warn_of_sizes(cfg, field, dataset)
        for step in nested_dicts(dataset.get('pipeline')):
            if step.get('type') in ('RandomRotate', 'Pad'):
                fields[f'{field}: {step["type"]}'] = step
    for field, step in fields.items():
        value = step.get('seg_pad_val', (step.get('pad_val') or 255))
        value = value.get('seg', IGNORE) if isinstance(value, dict) else value
        if value != 0:
            raise UserError(
                f'{cfg.filename}: {field} pads depth with {value}, which would be meters. Set '
                'seg_pad_val=0 (in Pad pad_val=dict(img=0, seg=0)).'
            )


def read_by_one_reader(cfg: Config | list[dict[str, Any]]) -> None:
    """Have all images of a config's data sets read by `moca.images`, as in pre-training.

    Args:
        cfg: the config, or a pipeline of it.
    """
    for step in nested_dicts(cfg if isinstance(cfg, list) else list(cfg.values())):
        name = getattr(step.get('type'), '__name__', step.get('type'))
        if name in ('LoadImageFromFile', 'mmcv.LoadImageFromFile', 'mmdet.LoadImageFromFile'):
            step['type'] = 'LoadReadableImage'


def check_segmentation(cfg: Config) -> None:
    """The part of `check_protocol` that any mmseg config with a model can be held against."""
    classes = _check_heads(cfg)
    for field, dataset, cls in segmentation_datasets(cfg):
        _check_dataset(field, dataset, cls, classes)
        _check_at_load(dataset, classes)
        if not has_labels(dataset):  # mmengine takes no None
            dataset['data_prefix'].pop('seg_map_path', None)
        if field.startswith('train'):
            _warn_of_sizes(cfg, field, dataset)


def _is_ours(field: str, value: Any) -> bool:
    """Whether a field is that of a protocol without training, which has the name of mmcv 1's."""
    return field == 'evaluation' and isinstance(value, dict) and 'type' in value


def _check_backbone(cfg: Config) -> None:
    name = cfg.model.get('backbone', {}).get('type')
    cls = MODELS.get(name) if isinstance(name, str) else name
    if not (inspect.isclass(cls) and issubclass(cls, PlainViT)):
        raise UserError(
            f"{cfg.filename}: model.backbone.type={name!r}: this suite measures type='PlainViT', "
            'which reads any checkpoint, takes any size and adds nothing to the pre-trained '
            "network. mmseg's own MAE and BEiT take one size and add LayerScale and relative "
            'positions.'
        )


# ---------------------------------------------------------------- segmentation: heads


def _check_heads(cfg: Config) -> int:
    """Check heads and their losses; returns the number of classes, on which they must agree."""
    heads = dict(_heads(cfg))
    counts = {f'{name}.num_classes': head.get('num_classes') for name, head in heads.items()}
    classes = next(iter(counts.values()), None)
    if not isinstance(classes, int) or set(counts.values()) != {classes}:
        raise UserError(
            f'{cfg.filename}: {", ".join(f"{k}={v}" for k, v in counts.items())}: every head needs '
            'the number of classes of the data set.'
        )
    if classes == 1:
        raise UserError(
            f'{cfg.filename}: {next(iter(counts))}=1: {ONE_CLASS}. One output with a sigmoid is '
            'num_classes=2, out_channels=1, threshold=0.5 in the head.'
        )
    for name, head in heads.items():
        if head.get('ignore_index', IGNORE) not in (IGNORE, None):
            raise UserError(
                f'{cfg.filename}: {name}.ignore_index={head["ignore_index"]}: crops are padded '
                f'with {IGNORE}, which would then be a class. Leave it out, and name values of the '
                'files that are to be ignored with ignore_ids of LoadCheckedAnnotations.'
            )
        for loss in nested_dicts(head.get('loss_decode')):
            _check_loss(f'{cfg.filename}: {name}.loss_decode', loss, classes)
    return classes


def _heads(cfg: Config) -> Iterator[tuple[str, dict[str, Any]]]:
    for name in ('decode_head', 'auxiliary_head'):
        found = cfg.model.get(name) or []
        if isinstance(found, dict):
            yield f'model.{name}', found
            continue
        for number, head in enumerate(found):
            yield f'model.{name}.{number}', head


def _check_loss(field: str, loss: dict[str, Any], classes: int) -> None:
    weights = loss.get('class_weight')
    if weights is None:
        return
    if loss.get('avg_non_ignore'):
        raise UserError(
            f'{field}: class_weight with avg_non_ignore=True raises in mmseg at the first ignored '
            'pixel. Set avg_non_ignore=False: with class_weight, mmseg averages over labeled '
            'pixels in any case.'
        )
    if isinstance(weights, list | tuple) and len(weights) != classes:
        raise UserError(f'{field}: {len(weights)} numbers in class_weight for {classes} classes.')


# ---------------------------------------------------------------- data sets


def _check_dataset(field: str, dataset: dict[str, Any], cls: Any, classes: int) -> None:
    names = class_names(dataset, cls, field)
    if len(names) != classes:
        raise UserError(
            f'{field}: {cls.__name__} has {len(names)} classes, and the heads are of {classes}. '
            'Set num_classes of every head to the number of classes, or metainfo.classes of every '
            'data set to those of the heads.'
        )
    default = _default(cls, 'reduce_zero_label')
    given = dataset.get('reduce_zero_label', default)
    if cls is not mmseg.datasets.BaseSegDataset and given != default:
        raise UserError(
            f'{field}: reduce_zero_label={given}, but in the files of {cls.__name__} '
            + (
                '0 is no class and 1 is the first: it has to be True.'
                if default
                else '0 is the first class: it has to be False.'
            )
        )


def _default(cls: type, name: str) -> Any:
    """The default of an argument of a data set, its own or that of mmseg's base class."""
    for owner in cls.__mro__:
        call = vars(owner).get('__init__')
        if call is not None and name in inspect.signature(call).parameters:
            return inspect.signature(call).parameters[name].default
    return None


def _check_at_load(dataset: dict[str, Any], classes: int) -> None:
    for step in nested_dicts(dataset.get('pipeline')):
        name = step.get('type')
        name = getattr(name, '__name__', name)
        if name in ('LoadAnnotations', 'mmseg.LoadAnnotations', 'LoadCheckedAnnotations'):
            step['type'] = 'LoadCheckedAnnotations'
            step.setdefault('num_classes', classes)


def _warn_of_sizes(cfg: Config, field: str, dataset: dict[str, Any]) -> None:
    """Say where training crops are not of the size that the model is set up for.

    Smaller ones are padded to ``data_preprocessor.size``, which costs time and memory for nothing,
    and positions are resampled in every step where ``backbone.img_size`` is another.
    """
    crop = _crop_size(dataset.get('pipeline') or [])
    model = cfg.model
    fields = {
        'model.data_preprocessor.size': (model.get('data_preprocessor') or {}).get('size'),
        'model.backbone.img_size': (model.get('backbone') or {}).get('img_size'),
    }
    sizes = {name: size for name, given in fields.items() if (size := _pair(given))}
    other = [name for name, size in sizes.items() if crop and size != crop]
    if crop and other:
        found = ' and '.join(f'{name} is {sizes[name][0]} x {sizes[name][1]}' for name in other)
        print_log(
            f'{field}: crops are {crop[0]} x {crop[1]}, but {found} (height x width). Set '
            f'{" and ".join(other)} to ({crop[0]}, {crop[1]}), or crop to the size of the model.',
            'current',
            level=30,
        )


def _crop_size(pipeline: Sequence[dict[str, Any]]) -> tuple[int, int] | None:
    """Height and width that a training pipeline ends in; None where they vary or are not known."""
    size = None
    for step in pipeline:
        kind = getattr(step.get('type'), '__name__', str(step.get('type'))).rpartition('.')[2]
        if kind == 'RedrawEmpty':
            size = _crop_size(step.get('transforms') or [])
        elif kind == 'RandomCrop':
            size = _pair(step.get('crop_size'))
        elif kind == 'Resize' and not step.get('keep_ratio'):
            size = _pair(step.get('scale'))
            size = size and (size[1], size[0])  # mmcv's scale is (width, height)
        elif 'Resize' in kind:
            size = None
    return size


def _pair(size: Any) -> tuple[int, int] | None:
    if isinstance(size, int):
        return size, size
    return (size[0], size[1]) if isinstance(size, list | tuple) and len(size) == 2 else None
