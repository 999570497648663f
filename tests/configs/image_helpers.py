"""Configs of image classification at toy size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from mmengine.config import Config

from moca.backbone import PlainViT
from moca.transfer.run import prepare_training
from tests.backbone.helpers import save
from tests.configs.helpers import OTHER_VITS, REPOSITORY, train_args

TINY_ARCH: dict[str, Any] = dict(patch_size=8, embed_dim=32, depth=2, num_heads=2)
# The config's own kind, and those of `tests.configs.helpers.OTHER_VITS`.
KINDS: dict[str, dict[str, Any]] = {
    'plain': TINY_ARCH,
    **{name: {**arch, **TINY_ARCH, 'img_size': 16} for name, arch in OTHER_VITS.items()},
}


def kind_of(number: int, feature: str) -> str:
    """The kind of ViT that a config takes in turn; only one with a class token for its feature."""
    kind = list(KINDS)[number % len(KINDS)]
    return 'rotary' if kind == 'no class token' and 'cls' in feature else kind


_LOADER = dict(
    num_workers=0, persistent_workers=False, pin_memory=False, batch_size=16, dataset=dict(size=16)
)


def file_of_half(arch: dict[str, Any], folder: Path) -> list[str]:
    """Options that read a backbone of random weights, whose images have mean and deviation .5."""
    model = PlainViT(arch)
    model.init_weights()
    half = ['0.5'] * 3
    file = save(model.state_dict(), folder / 'half.pth')
    return ['--checkpoint', str(file), '--mean', *half, '--std', *half]


def tiny_config(name: str, folder: Path, classes: int = 4, kind: str = 'plain') -> Path:
    """Write a config that inherits `name` of configs/imagenet, for images of 16 pixels."""
    path = folder / f'tiny_{name}.py'
    backbone = dict(arch=dict(_delete_=True, **KINDS[kind]), img_size=16)
    path.write_text(
        f"_base_ = '{REPOSITORY / f'configs/imagenet/{name}.py'}'\n"
        f'model = dict(backbone={backbone!r}, head=dict(num_classes={classes}))\n'
        f'train_dataloader = {_LOADER!r}\n'
        f'val_dataloader = {_LOADER!r}\n'
        f'test_dataloader = {_LOADER!r}\n'
        'default_hooks = dict(logger=dict(interval=1))\n'
    )
    return path


def prepare(
    config: Path, images: Path, work_dir: Path, *arguments: str | Path, **options: Any
) -> tuple[Config, dict[str, Any]]:
    """Prepare a run as tools/train.py does; `options` are cfg-options with ``__`` for points."""
    shown = [f'{key.replace("__", ".")}={value}' for key, value in options.items()]
    tail = ['--cfg-options', *shown] if shown else []
    where = ('--data-root', images, '--work-dir', work_dir)
    return prepare_training(train_args(config, *where, *arguments, *tail))
