"""What a run that is resumed has to do as before, though no tensor of its checkpoint shows it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmengine.config import Config

from moca.checkpoints.reading import read_file, run_config
from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD

_VIEWS = 'train_dataloader.dataset.views'
# Field, what it is if the config does not say, and how a command line gives it.
_HELD = (
    (f'{_VIEWS}.mean', IMAGENET_MEAN, '--mean'),
    (f'{_VIEWS}.std', IMAGENET_STD, '--std'),
    ('model.backbone.norm_eps', None, '--cfg-options'),
    ('model.backbone.interpolation', None, '--cfg-options'),
)


def check_resumed(cfg: Config) -> None:
    """Hold normalization, eps and resampling against those of the run that is resumed.

    They come from the checkpoint that a run starts from and from its command line, so that a run
    resumed without these would go on with other images or another network.

    Args:
        cfg: Of the run, with ``resume`` and ``load_from`` as they are settled.

    Raises:
        UserError: One is another than before.
    """
    path = cfg.get('load_from')
    if not cfg.get('resume') or not path:
        return
    before = run_config(read_file(path, mapped=True))
    if not before:
        return  # of another program's run, or of a test
    ours = cfg.to_dict()
    for field, usual, option in _HELD:
        was, now = _value(before, field, usual), _value(ours, field, usual)
        if was != now:
            raise UserError(
                f'{path}: the run to resume has {field}={was}, and this one {now}. Give the '
                f'--checkpoint and {option} that it was started with, or start a new run with '
                '--work-dir.'
            )


def _value(cfg: Mapping[str, Any], field: str, usual: Any) -> Any:
    """A field of a config, `usual` where it is not said; tuples for lists."""
    node: Any = cfg
    for part in field.split('.'):
        node = node.get(part) if isinstance(node, Mapping) else None
    node = usual if node is None else node
    return tuple(node) if isinstance(node, list | tuple) else node
