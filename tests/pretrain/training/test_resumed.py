"""A run that is resumed with another normalization, eps or resampling is refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN
from moca.pretrain.training.resumed import check_resumed
from tests.backbone.helpers import save

MEAN, STD = (0.5, 0.5, 0.5), (0.25, 0.25, 0.25)


def config(views: dict[str, Any], **backbone: Any) -> Config:
    return Config(
        dict(
            model=dict(type='MAEPretrain', backbone=dict(type='PlainViT', **backbone)),
            train_dataloader=dict(dataset=dict(views=dict(size=32, **views))),
        )
    )


def resumed(earlier: Config, ours: Config, folder: Path) -> Path:
    """Check our config as that of a run which goes on from one of the earlier config."""
    path = save({'meta': {'cfg': earlier.pretty_text}, 'state_dict': {}}, folder / 'epoch_1.pth')
    ours.update(resume=True, load_from=str(path))
    check_resumed(ours)
    return path


def test_the_same_run_goes_on(tmp_path: Path) -> None:
    for views in ({}, dict(mean=MEAN, std=STD)):
        first = config(views, norm_eps=1e-5, interpolation='bicubic')
        resumed(first, first.copy(), tmp_path)
    # what is not said is ImageNet's
    resumed(config({}), config(dict(mean=IMAGENET_MEAN)), tmp_path)


@pytest.mark.parametrize(
    ('change', 'message'),
    [
        (config(dict(std=STD)), r'views\.mean=\(0\.5, 0\.5, 0\.5\), and this one \(0\.485.*--mean'),
        (config(dict(mean=MEAN, std=MEAN)), r'views\.std=\(0\.25, .*--checkpoint and --std'),
        (config(dict(mean=MEAN, std=STD), norm_eps=1e-6), r'norm_eps=None, and this one 1e-06'),
        (
            config(dict(mean=MEAN, std=STD), interpolation='bicubic-offset'),
            'interpolation=None, and this one bicubic-offset',
        ),
    ],
)
def test_another_one_is_refused(change: Config, message: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=rf'epoch_1\.pth: the run to resume has .*{message}'):
        resumed(config(dict(mean=MEAN, std=STD)), change, tmp_path)


def test_a_run_of_its_own_is_held_against_nothing(tmp_path: Path) -> None:
    path = resumed(config({}), config({}), tmp_path)
    ours = config(dict(mean=MEAN))
    ours.update(resume=False, load_from=str(path))
    check_resumed(ours)
