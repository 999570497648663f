"""Token masks: which patches an encoder sees and which a decoder predicts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moca.engine.ranges import check_pair, check_share
from moca.errors import UserError


def num_kept(tokens: int, mask_ratio: float) -> int:
    """Tokens left at a mask ratio: ``int(tokens * (1 - mask_ratio))``, 88 of 196 at .55.

    In floating point, as in the released code of MOCA and MAE: 9 of 100 at .9, not 10.
    """
    return int(tokens * (1 - mask_ratio))


def visible_tokens(tokens: int, mask_ratio: float, field: str = 'mask_ratio') -> int:
    """How many tokens an encoder sees at a mask ratio that a user gave.

    Args:
        tokens: Of an image.
        mask_ratio: Share that is hidden.
        field: Where the ratio comes from, for the message.

    Raises:
        UserError: It is no share, or leaves fewer than one token.
    """
    visible = num_kept(tokens, check_share(mask_ratio, field))
    if visible < 1:
        raise UserError(
            f'{field}={mask_ratio} leaves none of {tokens} tokens visible. Lower the ratio or use '
            'larger images or smaller patches.'
        )
    return visible


def take_tokens(tokens: Tensor, ids: Tensor) -> Tensor:
    """The tokens ``[B, N, C]`` that ``ids``, ``[B, N]``, name among ``[B, L, C]``."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


@dataclass(frozen=True)
class MaskRound:
    """Token order of one round.

    Attributes:
        order: ``[B, L]``, a permutation of the tokens of each image.
        visible: How many of the first are encoded.
        decoded: How many of the first are decoded; those past ``visible`` are hidden.
    """

    order: Tensor
    visible: int
    decoded: int

    @property
    def ids_visible(self) -> Tensor:
        """``[B, visible]``."""
        return self.order[:, : self.visible]

    @property
    def ids_decoded(self) -> Tensor:
        """``[B, decoded]``: the visible tokens, then the hidden ones."""
        return self.order[:, : self.decoded]

    @property
    def ids_hidden(self) -> Tensor:
        """``[B, decoded - visible]``."""
        return self.order[:, self.visible : self.decoded]


def round_sizes(
    tokens: int, mask_ratio: Sequence[float], decoder_mask_ratio: Sequence[float]
) -> list[tuple[int, int]]:
    """Visible and decoded tokens of MOCA's two rounds.

    Raises:
        UserError: There are not two ratios for each, a round encodes no token or decodes fewer than
            it encodes, or the visible sets of the rounds would overlap.
    """
    rounds = zip(
        check_pair(mask_ratio, 'model.mask_ratio', "MOCA's rounds"),
        check_pair(decoder_mask_ratio, 'model.decoder_mask_ratio', "MOCA's rounds"),
        strict=True,
    )
    sizes = []
    for number, (encoder, decoder) in enumerate(rounds, start=1):
        visible, decoded = num_kept(tokens, encoder), num_kept(tokens, decoder)
        if visible < 1:
            raise UserError(
                f'model.mask_ratio: round {number} masks {encoder:.0%} of {tokens} tokens and '
                'leaves none visible. Lower the ratio or use larger images or smaller patches.'
            )
        if decoded < visible:
            raise UserError(
                f'model.decoder_mask_ratio: round {number} decodes {decoded} of {tokens} tokens, '
                f'fewer than the {visible} visible ones. It must not be higher than mask_ratio.'
            )
        sizes.append((visible, decoded))
    if sizes[0][0] + sizes[1][0] > tokens:
        raise UserError(
            f'model.mask_ratio: the rounds see {sizes[0][0]} and {sizes[1][0]} of {tokens} tokens, '
            'which cannot be disjoint. Raise one of the two ratios.'
        )
    return sizes


def complementary_rounds(
    order: Tensor, sizes: Sequence[tuple[int, int]]
) -> tuple[MaskRound, MaskRound]:
    """MOCA's two rounds with disjoint visible tokens, from one permutation per image.

    Round 1 takes the order as it is. Round 2's order is [its own visible tokens, round 1's
    hidden ones, the tokens that nobody uses, round 1's visible ones], so that it predicts the
    same hidden tokens from other evidence. (If round 1 decodes so much that too few tokens are
    left for round 2 to see, it sees some of the hidden ones.)

    Args:
        order: ``[B, L]``, a permutation of ``0..L-1`` in each row.
        sizes: Visible and decoded tokens of each round; see :func:`round_sizes`.
    """
    (visible1, decoded1), (visible2, decoded2) = sizes
    seen1, hidden, rest = order.split(
        [visible1, decoded1 - visible1, order.shape[1] - decoded1], dim=1
    )
    seen2, unused = rest[:, :visible2], rest[:, visible2:]
    second = torch.cat([seen2, hidden, unused, seen1], dim=1)
    return MaskRound(order, visible1, decoded1), MaskRound(second, visible2, decoded2)


def random_order(
    batch: int, tokens: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """One random permutation of the tokens per image, ``[B, L]``."""
    noise = torch.rand(batch, tokens, generator=generator, device=device)
    return noise.argsort(dim=1)


def central_tokens(grid: tuple[int, int], skip: int, device: torch.device) -> Tensor:
    """Indices of the tokens at least ``skip`` cells away from every border, ``[M]``.

    Raises:
        UserError: No token is left, or ``skip`` is negative.
    """
    rows, columns = grid
    if skip < 0:
        raise UserError(
            f'model.skip_offset={skip}: give the number of border cells to leave out, 0 up.'
        )
    if min(rows, columns) <= 2 * skip:
        raise UserError(
            f'model.skip_offset={skip} leaves no central token in a grid of {rows} x {columns}, '
            'which the encoder makes of an image. Give --cfg-options model.skip_offset='
            f'{(min(rows, columns) - 1) // 2} or less, or larger images (--img-size).'
        )
    ids = torch.arange(rows * columns, device=device).view(rows, columns)
    return ids[skip : rows - skip, skip : columns - skip].reshape(-1)
