"""Numbers of a recipe that belong together: batch, learning rate, length, schedule."""

from __future__ import annotations

from typing import Any

import numpy as np
from mmengine.config import Config
from mmengine.logging import print_log
from mmengine.registry import HOOKS
from mmengine.runner import Runner

from moca.backbone.arch import vit_dimensions
from moca.engine.accumulate import world_size_of
from moca.engine.hooks import find_hook, named_hooks, set_hook
from moca.errors import UserError
from moca.transfer.training_images import training_images


def follows_batch(cfg: Config) -> bool:
    """Whether a config's schedule makes the learning rate out of the batch by itself."""
    return find_hook(cfg, 'RateSchedule') is not None


def scale_learning_rate(cfg: Config) -> None:
    """Apply ``--auto-scale-lr``: the learning rate in proportion to the batch of a step.

    mmengine's own scaling does not know of accumulated gradients, and counts a single forward pass.

    Args:
        cfg: the run's, with ``launcher`` and accumulation set; the rate then belongs to its batch.

    Raises:
        UserError: if the config does not say which batch its rate is meant for.
    """
    scaling = cfg.get('auto_scale_lr') or {}
    if not scaling.get('enable') or follows_batch(cfg):
        return
    if not scaling.get('base_batch_size'):
        raise UserError(
            f'--auto-scale-lr: {cfg.filename} does not name the batch that its learning rate is '
            'meant for. Give --cfg-options auto_scale_lr.base_batch_size=N.'
        )
    count = cfg.optim_wrapper.get('accumulative_counts', 1)
    batch = world_size_of(cfg) * cfg.train_dataloader.batch_size * count
    optimizer = cfg.optim_wrapper.optimizer
    rate = optimizer.lr * batch / scaling['base_batch_size']
    print_log(
        f'--auto-scale-lr: lr {optimizer.lr:g} of a batch of {scaling["base_batch_size"]} becomes '
        f'{rate:g} for {batch}.',
        'current',
    )
    optimizer.lr = rate
    cfg.auto_scale_lr = dict(enable=False, base_batch_size=batch)


# What models of a width are called in `protocol.sizes`.
_SIZES = {192: 'tiny', 384: 'small', 768: 'base', 1024: 'large', 1280: 'huge'}


def warn_of_size(cfg: Config) -> None:
    """Recipes belong to a size of model: say so where ``--arch`` leaves what was published for it.

    ``protocol.sizes`` names the published sizes, each with the fields in which its recipe differs
    from the config's own.
    """
    sizes = cfg.protocol.get('sizes')
    if sizes is None:
        return
    size = _size_of(cfg)
    if size not in sizes:
        print_log(
            f'The recipe is published for {", ".join(sizes)}, not for a ViT {size}: learning rate, '
            'layer decay, drop-path and batch may not fit.',
            'current',
            level=30,
        )
        return
    published = sizes[size].items()
    other = {field: value for field, value in published if _value_at(cfg, field) != value}
    if other:
        options = ' '.join(f'{field}={value}' for field, value in other.items())
        print_log(
            f"The published recipe of a ViT {size} differs from this run's. Give --cfg-options "
            f'{options}',
            'current',
            level=30,
        )


def recipe_of_size(cfg: Config) -> dict[str, Any]:
    """The fields in which the published recipe of a model of this size differs from the config."""
    sizes = cfg.protocol.get('sizes') or {}
    return dict(sizes.get(_size_of(cfg)) or {}) if sizes else {}


def _size_of(cfg: Config) -> str:
    width = vit_dimensions(cfg.model.backbone.arch).embed_dim
    return _SIZES.get(width, f'of width {width}')


def _value_at(cfg: Config, field: str) -> Any:
    value: Any = cfg
    for key in field.split('.'):
        value = (value or {}).get(key)
    return value


def shorten(cfg: Config, share: float) -> None:
    """Cut an iteration-based recipe to a share of its length, its schedule with it.

    Validation and checkpoints come as often as before, or at the end if that is sooner. Hooks name
    their own fields that are steps: ``step_fields``, and ``first_step_fields`` for those of the
    beginning, which longer runs leave as they are.
    """
    length = cfg.train_cfg.get('max_iters')
    if not length:
        return
    cfg.train_cfg.max_iters = length = max(round(length * share), 1)
    schedulers = cfg.get('param_scheduler') or []
    for scheduler in schedulers if isinstance(schedulers, list | tuple) else [schedulers]:
        if scheduler.get('by_epoch', True):
            continue
        for field in ('begin', 'end'):
            if field in scheduler:
                scheduler[field] = round(scheduler[field] * share)
        if 'end' in scheduler:  # a warm-up of less than a step
            scheduler['end'] = max(scheduler['end'], scheduler.get('begin', 0) + 1)
        if 'milestones' in scheduler:
            scheduler['milestones'] = [round(step * share) for step in scheduler['milestones']]
        warmup = scheduler.get('warmup')  # a float is a share of the run, of whatever length
        if share < 1 and not isinstance(warmup, float | None):  # longer runs have the same one
            several = isinstance(warmup, list | tuple)
            steps = [max(round(step * share), 1) for step in (warmup if several else [warmup])]
            scheduler['warmup'] = steps if several else steps[0]
    for _, hook in named_hooks(cfg):
        kind = hook.get('type')
        cls = HOOKS.get(kind) if isinstance(kind, str) else kind
        first = getattr(cls, 'first_step_fields', ()) if share < 1 else ()
        for field in (*getattr(cls, 'step_fields', ()), *first):
            if hook.get(field):
                hook[field] = _scaled(hook[field], share)
    for section, field in (
        (cfg.train_cfg, 'val_interval'),
        ((cfg.get('default_hooks') or {}).get('checkpoint') or {}, 'interval'),
    ):
        if field in section:
            section[field] = min(section[field], length)


def _scaled(steps: Any, share: float) -> Any:
    """A step, or a list of them, times a share; 0 stays 0, and others are no sooner than 1."""
    if isinstance(steps, list | tuple):
        return [_scaled(step, share) for step in steps]
    return max(round(steps * share), 1) if steps else steps


def set_epochs(cfg: Config, epochs: int) -> None:
    """Apply ``--epochs``: a recipe's length, warm-up, milestones and all, times a ratio.

    As detectron2 makes ViTDet's 75 epochs from 100. The run is then of another protocol, named
    after its length.

    Args:
        cfg: the run's; ``protocol.epochs`` is the recipe's length, ``protocol.published_epochs``
            names the published results of other lengths.
        epochs: at most as many, or ``protocol.max_epochs``, the longest that is published.

    Raises:
        UserError: the recipe names no epochs, or fewer.
    """
    recipe = cfg.protocol.get('epochs')
    if not recipe:
        raise UserError(
            f'--epochs {epochs}: {cfg.filename} has no protocol.epochs, so its length is a part of '
            'the protocol. Choose a recipe of ViTDet, or set with --cfg-options '
            'train_cfg.max_epochs, where it counts epochs, or train_cfg.max_iters and '
            'param_scheduler.'
        )
    longest = max(recipe, cfg.protocol.get('max_epochs', 0))
    if epochs > longest:
        raise UserError(f'--epochs {epochs}: the recipe of {cfg.filename} has {longest}.')
    if epochs == recipe:
        return
    shorten(cfg, epochs / recipe)
    protocol = cfg.protocol
    protocol.update(
        name=f'{protocol.name}_{epochs}ep',
        title=f'{protocol.get("title", protocol.name)}, {epochs} epochs',
        published=(protocol.get('published_epochs') or {}).get(str(epochs)),
        epochs=epochs,
    )


def set_ema(cfg: Config, momentum: float) -> None:
    """Apply ``--ema``: validate and save a moving average of the weights.

    No published protocol here does so: the run is then of another one, named after it, without
    published results.

    Raises:
        UserError: the momentum is not between 0 and 1, or the config averages weights already.
    """
    if not 0 < momentum < 1:
        raise UserError(
            f'--ema {momentum:g}: the share of the newest weights in their average is between 0 '
            'and 1, and usually small, such as 0.0002.'
        )
    if found := find_hook(cfg, 'AveragedWeights', 'EMAHook'):
        raise UserError(
            f'--ema: {cfg.filename} averages weights already ({found[0]}). Leave --ema out.'
        )
    set_hook(cfg, 'ema', type='AveragedWeights', momentum=momentum)
    protocol = cfg.protocol
    protocol.update(
        name=f'{protocol.name}_ema',
        title=f'{protocol.get("title", protocol.name)}, EMA',
        published=None,
    )


def ema_of(cfg: Config) -> dict[str, Any] | None:
    """The arguments of the hook that averages weights, None without one."""
    found = find_hook(cfg, 'AveragedWeights', 'EMAHook')
    return {key: value for key, value in found[1].items() if key != 'type'} if found else None


def warn_of_batch(runner: Runner) -> None:
    """Learning rates belong to a batch size: say so where the recipe's is not met."""
    scaling = runner.cfg.get('auto_scale_lr') or {}
    recipe = scaling.get('base_batch_size')
    batch = (
        runner.world_size
        * runner.cfg.train_dataloader.batch_size
        * runner.cfg.optim_wrapper.get('accumulative_counts', 1)
    )
    if not recipe or batch == recipe or follows_batch(runner.cfg):
        return
    if not scaling.get('enable'):
        print_log(
            f"The batch is {batch} and the recipe's is {recipe}: its learning rate may not fit. "
            'Change train_dataloader.batch_size, or scale the learning rate with --auto-scale-lr.',
            runner.logger,
            level=30,
        )


def warn_of_schedule(runner: Runner) -> None:
    """Schedules belong to a length: say so where the learning rate's and the run's differ."""
    length = runner.cfg.train_cfg.get('max_iters')
    schedulers = runner.cfg.get('param_scheduler') or []
    schedulers = schedulers if isinstance(schedulers, list | tuple) else [schedulers]
    ends = {
        f'param_scheduler.{index}.end': scheduler['end']
        for index, scheduler in enumerate(schedulers)
        if not scheduler.get('by_epoch', True) and 'end' in scheduler
    }
    if not length or not ends or max(ends.values()) == length:
        return
    name = max(ends, key=lambda name: ends[name])
    print_log(
        f'train_cfg.max_iters is {length}, but {name} is {ends[name]}: the schedule of the '
        'learning rate is not that of a run of this length. Change both (and milestones, if any).',
        runner.logger,
        level=30,
    )


FOLDS = (12345, 23456, 34567, 45678, 56789)
"""Seeds of the published subsets of Cityscapes (Britefury/cutmix-semisup-seg,
run_cityscapes_experiments.sh)."""


def draw_subset(total: int, count: int, fold: int) -> list[int]:
    """The first `count` places of the published random order of `total` sorted images.

    Source: Britefury/cutmix-semisup-seg, datapipe/datasets.py: ``split_rng.permutation``.
    """
    order = np.random.RandomState(FOLDS[fold]).permutation(total)
    return [int(place) for place in order[:count]]


def set_subset(cfg: Config, count: int, seed: int | None) -> dict[str, Any]:
    """Train on `count` images for as many epochs as the recipe trains on all of them.

    Seed k of a run takes the published subset k modulo 5: the seeds 0 to 4 measure the mean and
    deviation over the five subsets. That the number of epochs stays is a choice of ours, since
    MOCA's few-shot schedule is not known.

    Args:
        cfg: of segmentation or depth, whose training set can be listed; changed in place.
        count: of images.
        seed: of the run.

    Returns:
        What ``run.json`` says of it.

    Raises:
        UserError: if there are not so many images, or as `training_images`.
    """
    images = training_images(cfg, f'--subset {count}')
    names, total = images.names, len(images.names)
    if images.dataset.get('indices'):
        raise UserError(
            f'--subset {count}: draws from a whole data set, and {cfg.filename} takes '
            f'{len(images.dataset["indices"])} of {total} images already '
            '(train_dataloader.dataset.indices). Leave one of the two out.'
        )
    if not 1 <= count <= total:
        raise UserError(f'--subset {count}: there are {total} training images in {images.source}.')
    fold = (seed or 0) % len(FOLDS)
    # the rule draws from sorted names without their suffix; a list in a file may be in any order
    places = sorted(range(total), key=lambda place: names[place])
    images.dataset['indices'] = [places[place] for place in draw_subset(total, count, fold)]
    shorten(cfg, count / total)
    if count < total:
        cfg.protocol.published = (cfg.protocol.get('few_shot') or {}).get(str(count))
    print_log(
        f'--subset: {count} of {total} images, fold {fold} (seed {FOLDS[fold]}); '
        f'{cfg.train_cfg.max_iters} iterations.',
        'current',
    )
    return dict(images=count, fold=fold)
