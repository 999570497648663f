"""Classes of whole images: how one is cut for a classifier, and which of several heads counts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.config import Config
from PIL import Image
from torch import Tensor

from moca.images.transforms import Pixels

_SIZE, _INTERPOLATION = 224, 'bicubic'
"""Defaults of `LabeledImages`."""


def image_input(image: Pixels, dataset: dict[str, Any]) -> Tensor:
    """Cut an image as tests do.

    Args:
        image: RGB ``[H, W, 3]``.
        dataset: Config of a `LabeledImages`.

    Returns:
        ``[3, height, width]`` uint8.
    """
    from moca.evaluation.classification.dataset import kept_share
    from moca.evaluation.labeled import center

    size = dataset.get('size', _SIZE)
    height, width = (size, size) if isinstance(size, int) else size
    share = kept_share((height, width), dataset.get('share'), dataset.get('whole_above'))
    interpolation = dataset.get('interpolation', _INTERPOLATION)
    cut = center(Image.fromarray(image), (height, width), share, interpolation)
    return torch.from_numpy(np.array(cut)).permute(2, 0, 1)


def head_rate(cfg: Config, checkpoint: Path) -> float | None:
    """The rate of the head that counts, of a run that trained several; None of any other run.

    Raises:
        UserError: No ``run.json`` beside the checkpoint tells it.
    """
    if (cfg.model.get('head') or {}).get('type') != 'SweepHead':
        return None
    from moca.evaluation.classification.checks import chosen_rate

    return chosen_rate(checkpoint)
