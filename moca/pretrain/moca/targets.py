"""MOCA's targets: assignments of teacher tokens, made a few images at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.pretrain.moca.codebook import Codebook
from moca.pretrain.moca.kl import Block, rows_at_once
from moca.pretrain.parts.masking import MaskRound


class AssignmentTargets:
    """Targets of both losses from one pass over the teacher's tokens.

    Each token is compared with the words once, and no [tokens, words] tensor outlives its chunk:
    :meth:`dense` hands the rows out as they are made; what the image loss and the normalizer need
    is gathered on the way. So :meth:`dense` comes first and :meth:`image` and :meth:`spreads` after
    its last row; before, they raise. (Two passes would read better, but comparing the tokens with
    the words a second time is 1.05 % of the FLOPs of a step of ViT-B at K 4096, and more of its
    memory traffic.)

    Args:
        codebook: What tokens are compared with.
        teacher: Its patch tokens, ``[2B, L, C]``, ``cat(view1, view2)``.
        central: Tokens that count for the image target, ``[M]``.
        rounds: The rounds whose decoded tokens are wanted.
    """

    def __init__(
        self,
        codebook: Codebook,
        teacher: Tensor,
        central: Tensor,
        rounds: Sequence[MaskRound],
    ) -> None:
        self._codebook, self._teacher, self._central = codebook, teacher, central
        self._rounds = rounds
        self._bags: list[Tensor] = []
        self._spreads: list[Tensor] = []
        self._complete = False

    @torch.no_grad()
    def dense(self) -> Iterator[Block]:
        """Assignments of the *same* view at the decoder's positions, a few rows at a time.

        Yields:
            Number of the round, rows of its ``2B * decoded``, and their targets ``[rows, K]``.
        """
        tokens = self._teacher.shape[1]
        size = rows_at_once(self._teacher.device, len(self._codebook.words))
        images = max(1, size // tokens)
        for first in range(0, len(self._teacher), images):
            codes = self._assign(self._teacher[first : first + images]).flatten(0, 1)
            offsets = torch.arange(len(codes) // tokens, device=codes.device)[:, None] * tokens
            for number, mask in enumerate(self._rounds):
                ids = (mask.ids_decoded[first : first + images] + offsets).flatten()
                start = first * mask.decoded
                for chosen in ids.chunk(math.ceil(len(ids) / size)):
                    yield number, slice(start, start + len(chosen)), codes[chosen]
                    start += len(chosen)
            del codes  # before there are new ones
        self._complete = True

    def _assign(self, teacher: Tensor) -> Tensor:
        """Assignments ``[B, L, K]`` of some images; notes what else is wanted of them."""
        cosine = self._codebook.similarities(teacher)
        self._spreads.append((cosine.amax(-1) - cosine.mean(-1)).mean(1))
        codes = self._codebook.assign(cosine)
        self._bags.append(codes[:, self._central].mean(1))
        return codes

    @torch.no_grad()
    def image(self) -> Tensor:
        """Mean assignment of the central tokens of the *other* view, ``[2B, K]``."""
        self._require_all()
        bag1, bag2 = F.normalize(torch.cat(self._bags), p=1, dim=1).chunk(2)
        return torch.cat([bag2, bag1])

    def spreads(self) -> Tensor:
        """(max cos - mean cos) over the words, averaged over an image's tokens, ``[2B]``."""
        self._require_all()
        return torch.cat(self._spreads)

    def _require_all(self) -> None:
        if not self._complete:
            raise RuntimeError('AssignmentTargets: use up dense() first, which gathers the rest.')
