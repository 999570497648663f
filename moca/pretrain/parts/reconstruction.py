"""Pixels of patches as targets, and how far predictions are from them."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor, nn

from moca.errors import UserError
from moca.pretrain.base import PretrainMethod, init_linears
from moca.pretrain.parts.decoder import PixelDecoder, pixel_decoder
from moca.pretrain.parts.masking import take_tokens, visible_tokens

# Added to a patch's variance (MAE's released code).
VARIANCE_EPS = 1e-6


def patchify(images: Tensor, patch: int) -> Tensor:
    """Cut images into patches, row by row; the pixels of a patch likewise, colors innermost.

    Args:
        images: ``[B, 3, H, W]``; sides are multiples of ``patch``.
        patch: In pixels.

    Returns:
        ``[B, L, patch * patch * 3]``, as MAE's released code orders them.
    """
    batch, colors, height, width = images.shape
    rows, columns = height // patch, width // patch
    cut = images.reshape(batch, colors, rows, patch, columns, patch)
    return cut.permute(0, 2, 4, 3, 5, 1).reshape(batch, rows * columns, patch * patch * colors)


def normalize_patches(patches: Tensor) -> Tensor:
    """Give the values of each patch, ``[..., P]``, mean 0 and unbiased variance 1, as MAE."""
    if not patches.numel():
        return patches  # of which torch would warn
    variance = patches.var(dim=-1, keepdim=True)
    return (patches - patches.mean(dim=-1, keepdim=True)) / (variance + VARIANCE_EPS).sqrt()


def patch_error(
    prediction: Tensor, target: Tensor, kind: Literal['squared', 'absolute'] = 'squared'
) -> Tensor:
    """Mean squared or absolute difference, in fp32; of no patch at all 0, not 0 / 0.

    Args:
        prediction: ``[B, N, P]``.
        target: Likewise.
        kind: MAE and CAN square, MACRL does not.
    """
    difference = prediction.float() - target.float()
    errors = difference.square() if kind == 'squared' else difference.abs()
    return errors.sum() / max(1, errors.numel())


def num_visible(tokens: int, mask_ratio: float, field: str = 'model.mask_ratio') -> int:
    """How many tokens are seen where the others are to be predicted.

    Raises:
        UserError: All of them, or none.
    """
    visible = visible_tokens(tokens, mask_ratio, field)
    if visible == tokens:
        raise UserError(f'{field}={mask_ratio} hides none of {tokens} tokens: nothing to predict.')
    return visible


class PixelMethod(PretrainMethod):
    """A method whose student's tokens are decoded to pixels.

    Args:
        backbone: As in :class:`PretrainMethod`, as are the other two.
        decoder: ``dim``, ``depth``, ``num_heads``, ``mlp_ratio``; what is left out is
            :func:`moca.pretrain.parts.decoder.decoder_size`'s.
        norm_pix: Normalize the pixels of each patch.
        data_preprocessor: As in mmengine.
        with_teacher: See :class:`PretrainMethod`.
    """

    decoder_class = PixelDecoder

    def __init__(
        self,
        backbone: dict[str, Any],
        decoder: dict[str, Any] | None,
        norm_pix: bool,
        data_preprocessor: dict[str, Any] | None = None,
        *,
        with_teacher: bool = False,
    ) -> None:
        super().__init__(backbone, data_preprocessor, with_teacher=with_teacher)
        self.decoder = pixel_decoder(self.student, decoder, self.decoder_class)
        self.norm_pix = norm_pix

    def init_parts(self) -> None:
        """Initialize the decoder as MAE's released code."""
        init_linears([self.decoder])
        nn.init.normal_(self.decoder.mask_token, std=0.02)

    def check_size(self, height: int, width: int) -> None:
        """Refuse views of another size, or whose last patches are padding and no target.

        Raises:
            UserError: Naming the sizes.
        """
        super().check_size(height, width)
        patch = self.student.patch_size
        if height % patch or width % patch:
            raise UserError(
                f'views of {height} x {width} pixels are no whole patches of {patch}. Set '
                'train_dataloader.dataset.views.size to a multiple.'
            )

    def pixels(self, images: Tensor, ids: Tensor) -> Tensor:
        """Pixels of the patches ``ids``, ``[B, N]``, as targets: ``[B, N, patch * patch * 3]``."""
        target = take_tokens(patchify(images, self.student.patch_size), ids)
        return normalize_patches(target) if self.norm_pix else target
