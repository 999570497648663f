"""What every pre-training method has: a student, the step's number, and a look at the batch."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.engine.seeding import own_generator
from moca.errors import UserError
from moca.pretrain.parts.ema import copy_to_teacher
from moca.pretrain.parts.masking import MaskRound, random_order


class PretrainMethod(BaseModel):
    """A method of pre-training, of which each has one file.

    A subclass gives ``forward(view1, ..., mode='loss', **about)``, which returns a dict with
    ``loss``; names of other values must not contain that word, since mmengine adds up those that
    do. ``about`` is what the data set says of the images; hooks read it.

    Random draws come from :meth:`generator` or :meth:`random_mask`, which depend on the run's
    seed, the step and the process alone, so a resumed run continues as if it had not stopped.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        data_preprocessor: As in mmengine.
        with_teacher: Whether there is a ``teacher``, a copy of the student without gradients.

    Attributes:
        num_views: How many views of an image ``forward`` takes.
        seed: Of the run, set once by the PretrainSchedule hook.
        step: Of the optimizer, set by it before each.
        momentum: Of the teacher, likewise.
        part: Which part of the step's batch comes next, and of how many; set by the loop.
        num_images: In the data set; set by `PretrainSchedule`, None before.
    """

    num_views = 2

    def __init__(
        self,
        backbone: dict[str, Any],
        data_preprocessor: dict[str, Any] | None = None,
        *,
        with_teacher: bool = False,
    ) -> None:
        super().__init__(data_preprocessor)
        # positions are fixed in pre-training, as in MAE
        backbone = {'train_pos_embed': False, **backbone}
        self.student: PlainViT = MODELS.build(backbone)
        if with_teacher:
            self.teacher: PlainViT = MODELS.build(backbone)
            copy_to_teacher(self.student, self.teacher)
        self.seed = 0
        self.step = 0
        self.momentum = 1.0
        self.part = (0, 1)
        self.num_images: int | None = None

    def parse_losses(self, losses: dict[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        """What is minimized, and what is logged; mmengine would minimize the sum of all losses.

        Args:
            losses: What ``forward`` returned.

        Raises:
            UserError: It is no dict, ``loss`` is not in it, or another name has ``loss`` in it.
        """
        name = type(self).__name__
        if not isinstance(losses, dict) or 'loss' not in losses:
            raise UserError(
                f"{name}.forward has to return a dict with 'loss', which is minimized, in mode "
                f"'loss'; it returned {_described(losses)}."
            )
        if others := [key for key in losses if 'loss' in key and key != 'loss']:
            raise UserError(
                f'{name}.forward returned {", ".join(others)} beside loss. mmengine would add all '
                'that have loss in their names: give the sum as loss, and its parts other names.'
            )
        return super().parse_losses(losses)

    @property
    def num_patches(self) -> int:
        """Patch tokens L of a view."""
        return math.prod(self.student.grid)

    def init_weights(self) -> None:
        """Initialize as MAE and MOCA do, and make the teacher a copy of the student."""
        self.init_parts()
        self.student.init_weights()
        if hasattr(self, 'teacher'):
            copy_to_teacher(self.student, self.teacher)

    def init_parts(self) -> None:
        """Initialize what there is beside the encoders."""

    def check_batch(self, images: int, size: int | None) -> None:
        """Refuse what a step could not be made of, before anything is computed.

        Args:
            images: In a step, over all processes.
            size: Of the views in pixels; None if the data set does not tell.

        Raises:
            UserError: The views have another size than the model was built for.
        """
        if size is not None:
            self.check_size(size, size)

    def check_size(self, height: int, width: int) -> None:
        """Refuse views of another size than the model was built for.

        Raises:
            UserError: Naming both.
        """
        side = tuple(math.ceil(length / self.student.patch_size) for length in (height, width))
        if side != self.student.grid:
            raise UserError(
                f'views of {height} x {width} pixels make {side} patches, the model was built for '
                f'{self.student.grid}. Set model.backbone.img_size to the size of '
                'train_dataloader.dataset.views.'
            )

    def generator(self, device: torch.device, stream: int = 0) -> torch.Generator:
        """Random numbers of this step and process; see :func:`own_generator`."""
        return own_generator(self.seed, self.step, device, stream)

    def random_mask(self, images: Tensor, visible: int, stream: int = 0) -> MaskRound:
        """Draw which patches of each image are seen; all others are hidden.

        Where gradients are accumulated, a part's masks are those that the whole batch would have.

        Args:
            images: ``[B, 3, H, W]``.
            visible: How many.
            stream: Another one for other masks of the same step.
        """
        number, count = self.part
        batch = len(images)
        generator = self.generator(images.device, stream)
        order = random_order(batch * count, self.num_patches, generator, images.device)
        return MaskRound(order[number * batch :][:batch], visible, self.num_patches)


def _described(losses: object) -> str:
    keys = f' of {", ".join(map(str, losses))}' if isinstance(losses, dict) and losses else ''
    return f'a {type(losses).__name__}{keys}'


def init_linears(modules: Iterable[nn.Module]) -> None:
    """Xavier-uniform weights and zero biases, as MAE and MOCA have them."""
    for module in modules:
        for layer in module.modules():
            if isinstance(layer, nn.Linear):
                nn.init.xavier_uniform_(layer.weight)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
