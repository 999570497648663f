"""Pixels in the place of features: what any backbone has to beat."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from mmengine.registry import MODELS
from torch import Tensor

from moca.backbone.arch import ArchSpec, vit_dimensions
from moca.backbone.patches import Pixels
from moca.backbone.vit import PlainViT, Tokens
from moca.errors import UserError


@MODELS.register_module()
class PatchColors(PlainViT):
    """A backbone whose patch tokens are the normalized pixels of the patches, ``3 * patch ** 2``.

    It takes the place of `PlainViT` where dense features are measured without training:
    ``--cfg-options model.backbone.type=PatchColors``, without a checkpoint. There are no class
    tokens, and no attention: LOST takes the pixels for keys.

    Args:
        arch: Only its patch size is used.
        settings: Of `PlainViT`.

    Raises:
        UserError: There is a checkpoint to be loaded.
    """

    label = 'colors'
    """In the place of a checkpoint's name."""

    def __init__(self, arch: ArchSpec = 'vit_base_patch16', **settings: Any) -> None:
        if settings.get('init_cfg'):
            raise UserError('PatchColors has no weights: leave out --checkpoint.')
        patch = vit_dimensions(arch).patch_size
        sizes = dict(patch_size=patch, embed_dim=3 * patch**2, depth=1, num_heads=1)
        super().__init__(sizes, **settings)

    def tokens(
        self, images: Tensor | Pixels, ids_keep: Tensor | None = None, layers: Sequence[int] = ()
    ) -> Tokens:
        """Pixels of patches ``[B, N, 3 * patch ** 2]``, channel by channel, of ``[B, 3, H, W]``.

        Images are padded with zeros on the right and below to whole patches. Layers are all alike.
        """
        assert ids_keep is None
        patches = (self.unfold(images) if isinstance(images, Tensor) else images).values
        none = patches[:, :0]
        return Tokens(none, patches, (patches,) * len(layers), (none,) * len(layers))
