"""MOCA's condenser decoder: hidden tokens from early patch tokens and one global token."""

from __future__ import annotations

from functools import partial

import torch
from timm.models.vision_transformer import Block
from torch import Tensor, nn

from moca.backbone.blocks import run_blocks
from moca.backbone.positions import sincos_positions
from moca.pretrain.masking import MaskRound


class CondenserDecoder(nn.Module):
    """Predicts tokens from what the encoder knew early, squeezed together with its summary.

    The patch tokens come from an *intermediate* block, so whatever the last blocks add can reach
    the decoder only through the global token. Paper: section 3.3; sizes from the released code.

    Args:
        in_dim: The encoder's width.
        grid: Rows and columns of patches.
        dim: Width; 512.
        depth: Blocks; 2 (the released models also use 1, 4, 8).
        num_heads: 16.
        mlp_ratio: 4.
    """

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
        # as in the encoder; timm's own default has been 1e-5
        norm = partial(nn.LayerNorm, eps=1e-6)
        self.norm_in = norm(in_dim)
        self.embed = nn.Linear(in_dim, dim)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_buffer('pos_embed', sincos_positions(grid, dim, num_prefix=1))
        self.blocks = nn.Sequential(
            *(
                Block(dim, num_heads, mlp_ratio, qkv_bias=True, norm_layer=norm)
                for _ in range(depth)
            )
        )
        self.norm = norm(dim)

    def forward(self, early: Tensor, summary: Tensor, mask: MaskRound) -> Tensor:
        """Decode the visible and the hidden tokens of a round.

        Args:
            early: Patch tokens of an intermediate block, without the final norm, ``[B, N, C]``.
            summary: Global token, ``[B, C]``; it is not normalised.
            mask: The round; its first N tokens are those of ``early``.

        Returns:
            ``[B, decoded, dim]``, in the order of the round.
        """
        batch, visible, _ = early.shape
        x = self.embed(torch.cat([summary[:, None], self.norm_in(early)], dim=1))
        hidden = self.mask_token.expand(batch, mask.decoded - visible, -1).to(x.dtype)
        ids = mask.ids_decoded[..., None].expand(-1, -1, x.shape[-1])
        positions = self.pos_embed[:, 1:].expand(batch, -1, -1).gather(1, ids)
        # the global token's own position is zero
        x = torch.cat([x[:, :1], torch.cat([x[:, 1:], hidden], dim=1) + positions], dim=1)
        for out in run_blocks(self.blocks, x):
            x = out
        return self.norm(x[:, 1:])
