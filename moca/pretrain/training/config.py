"""A pre-training config as the command line changes it, for one run or for each of a race."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.logging import print_log

from moca.checkpoints.info import CheckpointInfo
from moca.checkpoints.loading import AUTO, arch_of_file, inspect_checkpoint
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD
from moca.pretrain.monitors.knn import add_knn_hook
from moca.pretrain.training.schedule import check_pretraining, set_epochs


def pretraining_config(
    path: str | Path,
    *,
    data_root: str | None = None,
    arch: str | None = None,
    img_size: int | None = None,
    epochs: int | None = None,
    knn: str | None = None,
    knn_val: str | None = None,
    seed: int | None = None,
) -> Config:
    """Read a config of pre-training and set what is given.

    Args:
        path: such as ``configs/pretrain/moca_v1p0.py``.
        data_root: folder of images.
        arch: timm name of the ViT.
        img_size: side of the views in pixels, which is that of the ViT's positions.
        epochs: how long; the warm-up keeps its share.
        knn: labeled images on which the k-NN accuracy is watched.
        knn_val: the images to classify; a share of `knn` if None.
        seed: of all random numbers.

    Raises:
        UserError: the file is no such config, a number is out of its range, or there is `knn_val`
            without `knn`.
    """
    cfg = read_config(path)
    check_pretraining(cfg, path)
    if data_root:
        cfg.train_dataloader.dataset.data_root = data_root
    if arch and arch != AUTO:
        cfg.model.backbone.arch = arch
    if img_size:
        cfg.model.backbone.img_size = img_size
        cfg.train_dataloader.dataset.views.size = img_size
    if epochs is not None:
        set_epochs(cfg, epochs)
    if knn:
        add_knn_hook(cfg, knn, knn_val)
    elif knn_val:
        raise UserError('--knn-val needs --knn, the images whose labels are known.')
    if seed is not None:
        cfg.setdefault('randomness', {})['seed'] = seed
    return cfg


def take_from_checkpoint(cfg: Config, arch: str | None) -> None:
    """Take architecture, eps, resampling and normalization of the checkpoint to start from.

    The run's own checkpoints say them in turn. Where it starts from random weights, nothing is
    taken.

    Args:
        cfg: changed in place.
        arch: what ``--arch`` says; ``auto`` takes that of the checkpoint.

    Raises:
        UserError: the file cannot be read, does not say its architecture, or wants images
            normalized otherwise than the config says.
    """
    backbone = cfg.model.backbone
    start = backbone.get('init_cfg')
    if not isinstance(start, dict) or start.get('type') != 'ViTCheckpoint':
        return
    left_out = ('type', 'checkpoint', 'grid')
    how = {key: value for key, value in start.items() if key not in left_out}
    path = str(start.get('checkpoint') or '')
    if not path.startswith('hf-hub:') and not Path(path).exists():
        return  # which the checks of the run refuse
    info = inspect_checkpoint(start['checkpoint'], **how)
    if arch == AUTO and backbone.arch not in (info.arch, *info.fitting):
        backbone.arch = arch_of_file(start['checkpoint'], **how)
    if info.norm_eps is not None and backbone.get('norm_eps') is None:
        backbone.norm_eps = info.norm_eps
    if backbone.get('interpolation') is None:
        backbone.interpolation = info.interpolation
    print_log(_positions_text(info, bool(backbone.get('train_pos_embed'))), 'current')
    views = cfg.train_dataloader.dataset.get('views')
    if info.normalized_by is not None and views is not None:
        _normalize(views, info)


def _positions_text(info: CheckpointInfo, trained: bool) -> str:
    """What becomes of the positions of a checkpoint."""
    said = f"The encoder's positions stay those of the checkpoint: {info.positions}."
    if info.num_positions and not trained:
        said += ' They are not trained (model.backbone.train_pos_embed=True trains them).'
    if 'rotary' in info.positions:
        said += (
            ' Fixed sine positions, which MOCA and MAE otherwise give the encoder, cannot be had '
            'with them; a decoder has them as ever.'
        )
    return said


def _normalize(views: dict[str, Any], info: CheckpointInfo) -> None:
    for field, wanted, usual in (
        ('mean', info.mean, IMAGENET_MEAN),
        ('std', info.std, IMAGENET_STD),
    ):
        given = tuple(views.get(field) or usual)
        if given not in (tuple(usual), tuple(wanted)):
            raise UserError(
                f'train_dataloader.dataset.views.{field}={given}, but the checkpoint wants '
                f'{tuple(wanted)} ({info.normalized_by}). Leave it out of the config, or give '
                f'--{field}.'
            )
        views[field] = tuple(wanted)
