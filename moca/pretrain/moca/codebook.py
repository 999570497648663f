"""MOCA's online codebook: a FIFO queue of teacher tokens that others are assigned to."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn

from moca.engine.amp import tf32_under_autocast
from moca.engine.ranges import check_positive
from moca.engine.renamed import rename_keys
from moca.errors import UserError
from moca.pretrain.moca.draws import Draws

# All of MOCA's L2 normalizations use this (released code).
NORM_EPS = 1e-5


def perplexity(assignments: Tensor) -> Tensor:
    """How many words a distribution ``[..., K]`` is spread over: the exponential of its entropy."""
    return torch.exp(-torch.xlogy(assignments, assignments).sum(-1))


def _accept_old_names(module: nn.Module, state: dict[str, Any], prefix: str, *_: Any) -> None:
    rename_keys(state, prefix)


class Codebook(nn.Module):
    """Words, oldest first to go, and the normalizer of the assignments.

    Paper: section 3.1 and appendix; the numbers are the released code's.

    Args:
        num_words: Words K; 4096 in the paper.
        dim: Width of a word, the encoder's.
        words_per_step: Words replaced in a step, over all processes together; 4 in the paper.
        inv_delta: Inverse temperature of the assignments; 10.
        decay: Of the running normalizer; .99.

    Raises:
        UserError: ``num_words`` is no multiple of ``words_per_step``, or another is out of range.
    """

    words: Tensor
    pointer: Tensor
    normalizer: Tensor
    frozen_normalizer: Tensor
    updates: Tensor

    def __init__(
        self,
        num_words: int,
        dim: int,
        words_per_step: int = 4,
        inv_delta: float = 10.0,
        decay: float = 0.99,
    ) -> None:
        super().__init__()
        if words_per_step < 1 or num_words < 1 or num_words % words_per_step:
            raise UserError(
                f'num_words={num_words} is no multiple of words_per_step={words_per_step}: the '
                'queue must turn over in whole steps. Give whole numbers above 0 that divide.'
            )
        if not 0 <= decay < 1:
            raise UserError(
                f'normalizer_decay={decay}: give a number in [0, 1); the paper has .99.'
            )
        self.words_per_step = words_per_step
        self.inv_delta = check_positive(inv_delta, 'model.inv_delta')
        self.decay = decay
        # of the parts of a step before the last one
        self._spreads: list[Tensor] = []
        self._picked: list[Tensor] = []
        self._usages: list[Tensor] = []
        self.register_buffer('words', torch.zeros(num_words, dim))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.long))
        self.register_buffer('normalizer', torch.zeros(1))
        self.register_buffer('frozen_normalizer', torch.zeros(1))
        self.register_buffer('updates', torch.zeros(1))
        self.register_load_state_dict_pre_hook(_accept_old_names)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Words ``L2-norm(relu(N(0, 1)))``, normalizer .5."""
        self.words.copy_(F.normalize(torch.randn_like(self.words).relu(), dim=1, eps=NORM_EPS))
        self.pointer.zero_()
        self.normalizer.fill_(0.5)
        self.frozen_normalizer.fill_(0.5)
        self.updates.zero_()

    @torch.no_grad()
    def similarities(self, features: Tensor) -> Tensor:
        """Cosine of each feature ``[..., C]`` to each word: ``[..., K]``, fp32."""
        with tf32_under_autocast(features.device):
            return F.normalize(features.float(), dim=-1, eps=NORM_EPS) @ self.words.T

    @torch.no_grad()
    def assign(self, similarities: Tensor) -> Tensor:
        """Soft assignment ``softmax(inv_delta / d * cos)`` over the last dimension.

        The normalizer d is the one frozen at the last :meth:`update`.

        Args:
            similarities: ``[..., K]``; overwritten, since there is seldom room for both.
        """
        return torch.softmax(similarities.mul_(self.inv_delta / self.frozen_normalizer), dim=-1)

    @torch.no_grad()
    def track(self, spread: Tensor) -> None:
        """Move the running normalizer towards the mean of (max cos - mean cos) over tokens.

        Args:
            spread: That mean over all processes, a scalar.
        """
        self.normalizer.mul_(self.decay).add_(spread, alpha=1 - self.decay)

    @torch.no_grad()
    def pick(self, features: Tensor, image_ids: Tensor, token_ids: Tensor, first: int) -> Tensor:
        """The new words among these images' teacher tokens, zeros for those of other images.

        The picks of all images of a step, on all processes, add up to its new words.

        Args:
            features: Teacher tokens, ``[B, L, C]``.
            image_ids: Images the words come from, ``[words_per_step]``, counted over the images
                of all processes in the order of their ranks.
            token_ids: Which token of each, ``[words_per_step]``.
            first: The number of the first of these images in that count.

        Returns:
            L2-normalized, ``[words_per_step, C]``, fp32.
        """
        local = image_ids - first
        mine = (local >= 0) & (local < len(features))
        tokens = features[local.clamp(0, len(features) - 1), token_ids].float()
        return F.normalize(tokens, dim=-1, eps=NORM_EPS) * mine[:, None]

    @torch.no_grad()
    def update(self, picked: Tensor) -> None:
        """Overwrite the oldest words and freeze the normalizer.

        Args:
            picked: What :meth:`pick` found in the images of the step, ``[words_per_step, C]``.
        """
        rows = self.pointer + torch.arange(len(picked), device=picked.device)
        self.words[rows % len(self.words)] = picked
        self.pointer.add_(len(picked)).remainder_(len(self.words))
        self.frozen_normalizer.copy_(self.normalizer)
        self.updates.add_(1)

    @torch.no_grad()
    def step(
        self,
        part: tuple[int, int],
        features: Tensor,
        draws: Draws,
        spreads: Tensor,
        usage: Tensor,
    ) -> dict[str, Tensor]:
        """Take note of a part of the step's batch; after the last, move normalizer and words.

        Args:
            part: Its number and how many there are.
            features: Teacher tokens of its images, ``cat(view1, view2)``, ``[2B, L, C]``.
            draws: The random choices.
            spreads: (max cos - mean cos), averaged over each image's tokens, ``[2B]``.
            usage: The mean assignment of its images, ``[K]``.

        Returns:
            Nothing, and after the last part: ``normalizer``, and ``words_in_use``, the perplexity
            of the mean assignment of all images of all processes.
        """
        number, count = part
        if number == 0:
            self._spreads, self._picked, self._usages = [], [], []
        view = features.chunk(2)[draws.word_view]
        first = (get_rank() * count + number) * len(view)
        self._picked.append(self.pick(view, draws.word_images, draws.word_tokens, first))
        self._spreads.append(spreads.unflatten(0, (2, -1)).mean(1))
        self._usages.append(usage)
        if number < count - 1:
            return {}
        spread, picked, used = self._over_processes(
            torch.stack(self._spreads).mean(0),
            torch.stack(self._picked).sum(0),
            torch.stack(self._usages).mean(0),
        )
        for mean in spread:
            self.track(mean)
        self.update(picked)
        return dict(normalizer=self.normalizer.clone(), words_in_use=perplexity(used))

    @staticmethod
    def _over_processes(
        spread: Tensor, picked: Tensor, used: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Means of spreads and usages and sums of words over all processes, in one collective.

        Every process ends with the same words bit for bit: the owner of an image contributes its
        token, the others zeros.
        """
        if (world := get_world_size()) == 1:
            return spread, picked, used
        joined = torch.cat([spread.float(), picked.flatten(), used.float()])
        dist.all_reduce(joined)
        spread, words, used = joined.split([len(spread), picked.numel(), len(used)])
        return spread / world, words.view_as(picked), used / world
