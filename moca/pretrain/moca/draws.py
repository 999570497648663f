"""The random choices of one step of MOCA, a function of seed, step and process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from mmengine.dist import get_world_size
from torch import Tensor

from moca.engine.seeding import mixed_seed, own_generator
from moca.errors import UserError
from moca.pretrain.parts.masking import MaskRound, complementary_rounds, random_order


@dataclass(frozen=True)
class Draws:
    """Every random choice of one step.

    Attributes:
        rounds: Masks of the two rounds, for the ``2B`` images ``cat(view1, view2)``.
        word_view: Which view gives the new words, 0 or 1.
        word_images: Their images, counted over all processes, ``[words_per_step]``.
        word_tokens: Their patch tokens, ``[words_per_step]``.
    """

    rounds: tuple[MaskRound, MaskRound]
    word_view: int
    word_images: Tensor
    word_tokens: Tensor

    def part(self, number: int, count: int) -> Draws:
        """The choices for one of ``count`` equal parts of the batch, of both views of each image.

        The new words stay those of the whole step.
        """

        def cut(mask: MaskRound) -> MaskRound:
            batch = len(mask.order) // 2 // count
            parts = mask.order.unflatten(0, (2, count, batch))
            return replace(mask, order=parts[:, number].flatten(0, 1))

        return replace(self, rounds=(cut(self.rounds[0]), cut(self.rounds[1])))


def check_words(images: int, words: int) -> None:
    """Refuse a step of fewer images, over all processes, than new words.

    Raises:
        UserError: Naming both numbers.
    """
    if images < words:
        raise UserError(
            f'words_per_step={words} needs as many distinct images, but the batch of all '
            f'processes has {images}. Raise train_dataloader.batch_size or --accumulate.'
        )


def make_draws(
    seed: int,
    step: int,
    batch: int,
    sizes: Sequence[tuple[int, int]],
    tokens: int,
    central: Tensor,
    words: int,
) -> Draws:
    """Make the random choices of one step.

    They need no state, so a resumed run continues as if it had not stopped: the new words are the
    same on every process, the masks differ.

    Args:
        seed: Of the run.
        step: Of the optimizer.
        batch: Images of this process in the step, each of which has two views.
        sizes: Visible and decoded tokens of each round.
        tokens: Patch tokens L of an image.
        central: Tokens that may become words, ``[M]``; its device is the masks'.
        words: New words, from as many distinct images of all processes.

    Raises:
        UserError: Fewer images over all processes than words.
    """
    available = batch * get_world_size()
    check_words(available, words)
    device = central.device
    shared = torch.Generator().manual_seed(mixed_seed(seed, step))
    own = own_generator(seed, step, device)
    word_view = int(torch.randint(2, (1,), generator=shared))
    word_images = torch.randperm(available, generator=shared)[:words]
    choice = torch.randint(len(central), (words,), generator=shared)
    return Draws(
        rounds=complementary_rounds(random_order(2 * batch, tokens, own, device), sizes),
        word_view=word_view,
        word_images=word_images.to(device),
        word_tokens=central[choice.to(device)],
    )
