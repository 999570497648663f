"""MAE: predict the pixels of hidden patches.

Source: arXiv 2111.06377 and its released code, which agree in what is used here:

- one view; a random share of the patches is hidden, 75 %; the encoder sees the others;
- a decoder of 8 blocks x 512 with 16 heads over the encoder's tokens, class token included, and a
  mask token, of the decoder's width, for each hidden patch;
- mean squared error over the hidden patches; targets are pixels that are normalized within each
  patch (unbiased variance, eps 1e-6), as in the published results.

Choices of ours: the decoder of an encoder smaller than ViT-B is smaller too
(:func:`moca.pretrain.parts.decoder.decoder_size`, field ``decoder``).
"""

from __future__ import annotations

from typing import Any, Literal

from mmengine.registry import MODELS
from torch import Tensor

from moca.pretrain.parts.reconstruction import PixelMethod, num_visible, patch_error


@MODELS.register_module()
class MAEPretrain(PixelMethod):
    """MAE's networks and one training step.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        decoder: ``dim``, ``depth``, ``num_heads``, ``mlp_ratio``; 8 x 512 with 16 heads for ViT-B.
        mask_ratio: Share of the patches that is hidden; .75.
        norm_pix: Normalize the pixels of each patch.
        data_preprocessor: As in mmengine.

    Raises:
        UserError: The mask leaves no token visible or none hidden.
    """

    num_views = 1

    def __init__(
        self,
        backbone: dict[str, Any],
        decoder: dict[str, Any] | None = None,
        *,
        mask_ratio: float = 0.75,
        norm_pix: bool = True,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, decoder, norm_pix, data_preprocessor)
        self.visible = num_visible(self.num_patches, mask_ratio)

    def forward(
        self, view1: Tensor, mode: Literal['loss', 'tensor'] = 'tensor', **about: Any
    ) -> dict[str, Tensor]:
        """One step's loss, or what it is made of.

        Args:
            view1: ``[B, 3, H, W]``, normalized.
            mode: ``tensor`` returns ``prediction`` and ``target`` of the hidden patches,
                ``[B, hidden, patch * patch * 3]``.
            about: What else the data set says of the images.
        """
        self.check_size(*view1.shape[-2:])
        mask = self.random_mask(view1, self.visible)
        features = self.decoder(self.student.tokens(view1, mask.ids_visible), mask)
        prediction = self.decoder.head(features[:, mask.visible :])
        target = self.pixels(view1, mask.ids_hidden)
        if mode == 'tensor':
            return dict(prediction=prediction, target=target)
        loss = patch_error(prediction, target)
        # by the name that CAN and MACRL have for it, so that curves lie over each other
        return dict(loss=loss, reconstruction=loss.detach())
