"""Decoders of visible and hidden tokens: what all share, MOCA's condenser, MAE's of pixels."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.backbone.blocks import run_blocks
from moca.backbone.positions import sincos_positions
from moca.backbone.vit import Tokens
from moca.engine.config_check import check_arguments
from moca.errors import UserError
from moca.pretrain.parts.masking import MaskRound, take_tokens

# A decoder that nobody gave a size is this share of the encoder's width and depth, up to MAE's own
# size (our choice: the share is MAE's for ViT-B, 512 of 768 and 8 of 12, so that the decoder does
# not outgrow a smaller encoder). Heads are 32 wide as MAE's.
SHARE = (2, 3)
LARGEST_DIM, LARGEST_DEPTH, HEAD_DIM = 512, 8, 32


FILLED = ('in_dim', 'grid')
"""Arguments of a decoder that its encoder gives, not the config."""


class TokenDecoder(nn.Module):
    """Blocks over the tokens that an encoder saw and mask tokens in place of the others.

    Args:
        in_dim: The encoder's width.
        grid: Rows and columns of patches.
        dim: Width; MOCA's 512, as the next two are MOCA's. Methods that predict pixels give all
            three themselves.
        depth: Blocks; 2.
        num_heads: 16.
        mlp_ratio: 4.
    """

    # width of the mask token: that of the encoder, before `embed`, or the decoder's
    mask_before_embed = False
    norm_input = False

    pos_embed: Tensor

    def __init__(
        self,
        in_dim: int,
        grid: tuple[int, int],
        dim: int = 512,
        depth: int = 2,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
    ) -> None:
        super().__init__()
        if min(dim, depth, num_heads) < 1 or dim % num_heads:
            raise UserError(
                f'model.decoder: dim={dim}, depth={depth}, num_heads={num_heads}: give 1 or more '
                'of each, and a width that its heads divide.'
            )
        # as in the encoder; timm's own default has been 1e-5
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm_in: nn.Module = norm(in_dim) if self.norm_input else nn.Identity()
        self.embed = nn.Linear(in_dim, dim)
        width = in_dim if self.mask_before_embed else dim
        self.mask_token = nn.Parameter(torch.zeros(1, 1, width))
        self.register_buffer('pos_embed', sincos_positions(grid, dim, num_prefix=1))
        self.blocks = nn.Sequential(
            *(
                Block(dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm)
                for _ in range(depth)
            )
        )
        self.norm = norm(dim)

    def decode(self, prefix: Tensor, patches: Tensor, mask: MaskRound) -> Tensor:
        """Put positions on the embedded tokens and run the blocks.

        Args:
            prefix: Tokens without a position, ``[B, P, dim]``.
            patches: Visible and hidden tokens in the mask's order, ``[B, decoded, dim]``.
            mask: Says which token is which patch.

        Returns:
            The patches' tokens after the final norm, ``[B, decoded, dim]``, in the same order.
        """
        table = self.pos_embed[:, 1:].expand(len(patches), -1, -1)
        positions = take_tokens(table, mask.ids_decoded)
        # the prefix's own position is zero
        x = torch.cat([prefix, patches + positions], dim=1)
        for out in run_blocks(self.blocks, x):
            x = out
        return self.norm(x[:, prefix.shape[1] :])

    def hidden_tokens(self, mask: MaskRound, like: Tensor) -> Tensor:
        """The mask token for each hidden patch, ``[B, decoded - visible, width]``."""
        hidden = self.mask_token.expand(len(like), mask.decoded - mask.visible, -1)
        return hidden.to(like.dtype)


class CondenserDecoder(TokenDecoder):
    """MOCA's: predicts tokens from what the encoder knew early, squeezed with its summary.

    The patch tokens come from an *intermediate* block, so whatever the last blocks add can reach
    the decoder only through the global token. Paper: section 3.3; sizes from the released code
    (its models have 1, 2, 4 or 8 blocks).
    """

    norm_input = True

    def forward(self, early: Tensor, summary: Tensor, mask: MaskRound) -> Tensor:
        """Decode the visible and the hidden tokens of a round.

        Args:
            early: Patch tokens of an intermediate block, without the final norm, ``[B, N, C]``.
            summary: Global token, ``[B, C]``; it is not normalized.
            mask: The round; its first N tokens are those of ``early``.

        Returns:
            ``[B, decoded, dim]``, in the order of the round.
        """
        x = self.embed(torch.cat([summary[:, None], self.norm_in(early)], dim=1))
        patches = torch.cat([x[:, 1:], self.hidden_tokens(mask, x)], dim=1)
        return self.decode(x[:, :1], patches, mask)


class PixelDecoder(TokenDecoder):
    """MAE's (arXiv 2111.06377, released code), with a head of pixels.

    Args:
        patch_size: Of the encoder.
        kwargs: Of :class:`TokenDecoder`.
    """

    def __init__(self, *args: Any, patch_size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.head = nn.Linear(self.embed.out_features, 3 * patch_size**2)

    def forward(self, tokens: Tokens, mask: MaskRound, shift: Tensor | None = None) -> Tensor:
        """Features of visible and hidden tokens; :attr:`head` makes pixels of them.

        Args:
            tokens: Of the encoder: prefix and visible patches.
            mask: Which patches these are.
            shift: Added to every token, visible and hidden, before the embedding, ``[B, C]``; only
                where the mask token comes before it too.

        Returns:
            ``[B, decoded, dim]``, in the order of the mask.
        """
        prefix = tokens.prefix.shape[1]
        x = torch.cat([tokens.prefix, tokens.patches], dim=1)
        if self.mask_before_embed:
            x = torch.cat([x, self.hidden_tokens(mask, x)], dim=1)
            x = self.embed(x if shift is None else x + shift[:, None])
        else:
            x = self.embed(x)
            x = torch.cat([x, self.hidden_tokens(mask, x)], dim=1)
        return self.decode(x[:, :prefix], x[:, prefix:], mask)


class EarlyMaskDecoder(PixelDecoder):
    """CAN's: the mask token has the encoder's width and is embedded as any other token."""

    mask_before_embed = True


def decoder_size(width: int, depth: int) -> dict[str, int]:
    """Size of a pixel decoder for an encoder: MAE's for ViT-B and up, smaller below (SHARE)."""
    part, whole = SHARE
    dim = min(LARGEST_DIM, max(1, width * part // whole // HEAD_DIM) * HEAD_DIM)
    blocks = min(LARGEST_DEPTH, max(1, depth * part // whole))
    return dict(dim=dim, depth=blocks, num_heads=dim // HEAD_DIM)


def pixel_decoder(
    encoder: PlainViT, given: dict[str, Any] | None, cls: type[PixelDecoder] = PixelDecoder
) -> PixelDecoder:
    """A decoder for an encoder; what ``model.decoder`` leaves out is :func:`decoder_size`'s.

    Raises:
        UserError: An argument is unknown.
    """
    given = dict(given or {})
    check_arguments(TokenDecoder, given, 'model.decoder', FILLED)
    size: dict[str, Any] = {**decoder_size(encoder.embed_dims, encoder.num_layers), **given}
    if 'dim' in given and 'num_heads' not in given:
        size['num_heads'] = max(1, given['dim'] // HEAD_DIM)
    return cls(encoder.embed_dims, encoder.grid, patch_size=encoder.patch_size, **size)
