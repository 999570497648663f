"""MOCA's targets: assignments of teacher tokens, made a few images at a time."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from moca.pretrain.codebook import Codebook
from moca.pretrain.losses import rows_at_once
from moca.pretrain.masking import MaskRound


class AssignmentTargets:
    """Targets of both losses from one pass over the teacher's tokens.

    Each token is compared with the words once, and no [tokens, words] tensor outlives its chunk:
    :meth:`dense` hands the rows out as they are made; what the image loss and the normaliser need
    is gathered on the way, and complete once the rows are used up.

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
        self._ids = torch.cat([mask.ids_decoded for mask in rounds], dim=1)
        self._bags: list[Tensor] = []
        self._spreads: list[Tensor] = []
        # the mean over a round's rows, summed over rounds
        images = len(teacher)
        weights = [teacher.new_full((m.decoded,), 1 / (images * m.decoded)) for m in rounds]
        self.weights = torch.cat(weights).float().repeat(images)

    @torch.no_grad()
    def dense(self) -> Iterator[Tensor]:
        """Assignments of the *same* view at the decoder's positions, a few images at a time.

        Yields:
            Rows ``[n, K]``, ``2B * decoded`` in all: image by image, of each image round by
            round. Their weights ``[2B * decoded]`` are :attr:`weights`.
        """
        tokens = self._teacher.shape[1]
        words = len(self._codebook.words)
        images = max(1, rows_at_once(self._teacher.device, words) // tokens)
        for part, ids in zip(self._teacher.split(images), self._ids.split(images), strict=True):
            cosine = self._codebook.similarities(part)
            self._spreads.append((cosine.amax(-1) - cosine.mean(-1)).mean(1))
            codes = self._codebook.assign(cosine)
            del cosine
            self._bags.append(codes[:, self._central].mean(1))
            offsets = torch.arange(len(part), device=ids.device)[:, None] * tokens
            yield codes.flatten(0, 1)[(ids + offsets).flatten()]

    @torch.no_grad()
    def image(self) -> Tensor:
        """Mean assignment of the central tokens of the *other* view, ``[2B, K]``."""
        bag1, bag2 = F.normalize(torch.cat(self._bags), p=1, dim=1).chunk(2)
        return torch.cat([bag2, bag1])

    def spreads(self) -> Tensor:
        """(max cos - mean cos) over the words, averaged over an image's tokens, ``[2B]``."""
        return torch.cat(self._spreads)
