"""What a segmentor and a detector of a mask transformer share: building, weights, the network."""

from __future__ import annotations

from typing import Any, ClassVar

from mmengine.config import Config
from mmengine.registry import MODELS
from torch import Tensor

from moca.engine.config_check import check_arguments
from moca.eomt.loss import NUM_POINTS, MaskLoss
from moca.eomt.network import MaskTransformer, Predictions
from moca.eomt.published import set_published
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


class QueriedModel:
    """Weights and network of a segmentor or detector, which builds them by `build_parts`.

    Attributes:
        head_field: Of the model's config, with the fields of the head.
        network: The mask transformer.
        head_from: A published file whose queries and heads are taken; None for none.
    """

    head_field: ClassVar[str]
    network: MaskTransformer
    head_from: str | None

    @classmethod
    def set_published(cls, cfg: Config, path: str, width: int, backbone: str | None) -> None:
        """Have a config test a published file; see :func:`.eomt.published.set_published`."""
        set_published(cfg, path, backbone, cls.head_field)

    def init_weights(self) -> None:
        """Load the backbone's checkpoint, and the published heads if they are asked for."""
        self.network.init_weights(self.head_from)
        self._is_init = True

    @property
    def backbone(self) -> Any:
        """The ViT, as other segmentors and detectors have it."""
        return self.network.backbone

    def extract_feat(self, inputs: Tensor) -> Predictions:
        """All predictions of the queries for images ``[B, 3, H, W]``."""
        return self.network(inputs)

    def _forward(self, inputs: Tensor, data_samples: Any = None) -> Predictions:
        return self.network(inputs)
