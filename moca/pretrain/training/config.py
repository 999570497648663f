"""A pre-training config as the command line changes it, for one run or for each of a race."""

from __future__ import annotations

from pathlib import Path

from mmengine.config import Config
from mmengine.logging import print_log

from moca.checkpoints import CheckpointInfo
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.pretrain.monitors.knn import add_knn_hook
from moca.pretrain.training.schedule import check_pretraining, set_epochs


def pretraining_config(
    path: str | Path,
    *,
    data_root: str | None = None,
    arch: str | None = None,
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
    if arch and arch != 'auto':
        cfg.model.backbone.arch = arch
    if epochs is not None:
        set_epochs(cfg, epochs)
    if knn:
        add_knn_hook(cfg, knn, knn_val)
    elif knn_val:
        raise UserError('--knn-val needs --knn, the images whose labels are known.')
    if seed is not None:
        cfg.setdefault('randomness', {})['seed'] = seed
    return cfg


def take_from_checkpoint(cfg: Config, info: CheckpointInfo, arch: str | None) -> None:
    """Take architecture and normalization of the checkpoint that pre-training starts from.

    Args:
        cfg: changed in place.
        info: of the checkpoint.
        arch: what ``--arch`` says; ``auto`` takes that of the checkpoint.
    """
    backbone = cfg.model.backbone
    own = backbone.arch
    if arch == 'auto' and info.arch is not None and own not in (info.arch, *info.fitting):
        backbone.arch = info.arch
        print_log(f'--arch auto: {info.arch}', 'current')
    if info.norm_eps is not None:
        backbone.norm_eps = info.norm_eps
    views = cfg.train_dataloader.dataset.get('views')
    if info.normalized_by is not None and views is not None:
        views.mean, views.std = info.mean, info.std
