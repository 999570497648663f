"""Network and loss from the fields of a segmentor's or a detector's config."""

from __future__ import annotations

from typing import Any

from mmengine.registry import MODELS

from moca.engine.config_check import check_arguments
from moca.eomt.loss import NUM_POINTS, MaskLoss
from moca.eomt.network import MaskTransformer
from moca.errors import UserError


def build_parts(
    backbone: dict[str, Any], head: dict[str, Any], field: str
) -> tuple[MaskTransformer, MaskLoss]:
    """Build what all mask transformers share.

    Args:
        backbone: Config of a `PlainViT` without windows.
        head: ``num_classes``; ``num_queries`` (100) and ``num_blocks`` (4) of `MaskTransformer`;
            ``num_points`` of `MaskLoss`.
        field: Where `head` stands in the config.

    Raises:
        UserError: A field is unknown or missing.
    """
    head = dict(head)
    points = head.pop('num_points', NUM_POINTS)
    if 'num_classes' not in head:
        raise UserError(f'{field}: needs num_classes.')
    check_arguments(MaskTransformer, dict(backbone=None, **head), field)
    network = MaskTransformer(MODELS.build(backbone), **head)
    return network, MaskLoss(head['num_classes'], network.num_queries, points)
