"""MOMA: distil one or two self-supervised teachers into a student that sees a tenth of the patches.

Source: arXiv 2302.02089, of which only the abstract is public here.

- Paper: three modes. A frozen MoCo teacher and a student that starts from MAE; a frozen MAE teacher
  and a student that starts from MoCo; both as frozen teachers of a student, perhaps a smaller one,
  that starts at random. The teacher sees the whole image, the student a masked one at an extremely
  high mask ratio. The *normalized* teacher representation is aligned with the *projected* student
  representation. Few epochs.
- Choices: ``mask_ratio`` .9; aligned are the class token and the patch tokens that the student
  sees, after the final norms; the teacher is normalized token by token, by a LayerNorm without
  weights, the student is not (``normalize_student``); one linear projector for each teacher,
  dropped afterwards; SmoothL1 with ``beta`` 2, the mean over teachers
  (``teacher_weights``).

What a run starts from is the config's: ``model.backbone.init_cfg`` of the student and the
``checkpoint`` of each of ``model.teachers``, of any family that ``moca.checkpoints.loading`` reads.
Position embeddings come with them, so those of MAE and MoCo-v3, which lie transposed to each other,
each stay their encoder's own. Checkpoints of a run hold the teachers as well, but a run that is
resumed still looks for the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.backbone import PlainViT, Tokens
from moca.engine.config_check import check_arguments
from moca.engine.ranges import check_positive, check_weight
from moca.errors import CheckpointMismatch, UserError
from moca.pretrain.base import PretrainMethod, init_linears
from moca.pretrain.parts.masking import MaskRound, take_tokens, visible_tokens


class FrozenTeacher(PlainViT):
    """An encoder that is read from a file and never changes.

    Args:
        field: Where the config has it, for messages.
        arch: As :class:`PlainViT`'s.
        img_size: Likewise.
        checkpoint: File of any family; None leaves random weights, which a run refuses.
        branch: ``teacher`` or ``student``, where the file has both.

    Raises:
        UserError: There is no such file.
    """

    def __init__(
        self,
        field: str,
        arch: str | Mapping[str, Any],
        img_size: int | None = None,
        checkpoint: str | None = None,
        branch: str | None = None,
    ) -> None:
        if checkpoint is not None:
            _check_file(checkpoint, f'{field}.checkpoint')
        file = dict(type='ViTCheckpoint', checkpoint=checkpoint, branch=branch)
        init_cfg = None if checkpoint is None else file
        super().__init__(arch, img_size=img_size, frozen=True, init_cfg=init_cfg)
        self.field, self.checkpoint = field, checkpoint

    def init_weights(self) -> None:
        """Load the file.

        Raises:
            CheckpointMismatch: It is another architecture's; names the field, as other errors do.
        """
        try:
            super().init_weights()
        except UserError as error:
            # these options are the student's
            message = str(error).replace('--arch ', f'{self.field}.arch=')
            message = message.replace('--branch ', f'{self.field}.branch=')
            field = f'{self.field}.arch' if isinstance(error, CheckpointMismatch) else self.field
            raise type(error)(f'{field}: {message}') from error


@MODELS.register_module()
class MOMAPretrain(PretrainMethod):
    """MOMA's networks and one training step.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`; its ``init_cfg`` says
            what it starts from.
        teachers: By name, arguments of :class:`FrozenTeacher`: ``arch``, ``checkpoint``,
            ``branch``, ``img_size`` (the student's).
        teacher_weights: By name, weight of each teacher's loss; equal shares of 1.
        mask_ratio: Share of the patches that is hidden from the student; .9.
        beta: Of the SmoothL1 loss: errors below it count squared; 2.
        normalize_student: Normalize the projected student as the teacher.
        data_preprocessor: As in mmengine.

    Raises:
        UserError: There is no teacher, its patches are not those of the student, its file is
            missing, or the mask leaves no token visible.
    """

    num_views = 1

    def __init__(
        self,
        backbone: dict[str, Any],
        teachers: dict[str, dict[str, Any]],
        *,
        teacher_weights: dict[str, float] | None = None,
        mask_ratio: float = 0.9,
        beta: float = 2.0,
        normalize_student: bool = False,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        if start := (backbone.get('init_cfg') or {}).get('checkpoint'):
            _check_file(start, 'model.backbone.init_cfg.checkpoint')
        super().__init__(backbone, data_preprocessor)
        if not teachers:
            raise UserError('model.teachers is empty: give one or two, by any name.')
        self.visible = visible_tokens(self.num_patches, mask_ratio, 'model.mask_ratio')
        built = {name: self._teacher(name, given, backbone) for name, given in teachers.items()}
        self.weights = teacher_weights or dict.fromkeys(teachers, 1 / len(teachers))
        if self.weights.keys() != teachers.keys():
            raise UserError(
                f'model.teacher_weights names {", ".join(self.weights)}, model.teachers '
                f'{", ".join(teachers)}: give one for each.'
            )
        width = self.student.embed_dims
        # Any: mypy takes what such a dict holds for tensors
        self.teachers: Any = nn.ModuleDict(built)
        self.projectors: Any = nn.ModuleDict(
            {name: nn.Linear(width, teacher.embed_dims) for name, teacher in built.items()}
        )
        for name, weight in self.weights.items():
            check_weight(weight, f'model.teacher_weights.{name}')
        self.beta = check_positive(beta, 'model.beta')
        self.normalize_student = normalize_student

    def _teacher(self, name: str, given: dict[str, Any], backbone: dict[str, Any]) -> FrozenTeacher:
        field = f'model.teachers.{name}'
        check_arguments(FrozenTeacher, given, field, filled=('field',))
        if 'arch' not in given:
            raise UserError(f'{field}.arch is missing: give the timm name of the teacher.')
        teacher = FrozenTeacher(field, **{'img_size': backbone.get('img_size'), **given})
        student = self.student
        if (teacher.grid, teacher.patch_size) != (student.grid, student.patch_size):
            raise UserError(
                f'{field}: its patches of {teacher.patch_size} pixels make a grid of '
                f'{teacher.grid}, those of the student, {student.patch_size} pixels, one of '
                f'{student.grid}; tokens are aligned one by one. Give a teacher ({field}.arch '
                'and .checkpoint) or a student (model.backbone.arch) of the same patch size.'
            )
        return teacher

    def init_parts(self) -> None:
        """Read the teachers; initialize the projectors as other linears."""
        for teacher in self.teachers.values():
            teacher.init_weights()
        init_linears([self.projectors])

    def check_batch(self, images: int, size: int | None) -> None:
        """Check as the base class does, and that every teacher comes from a file."""
        super().check_batch(images, size)
        for teacher in self.teachers.values():
            if teacher.checkpoint is None:
                raise UserError(
                    f'{teacher.field}.checkpoint is not given: a random teacher teaches nothing. '
                    f'Give --cfg-options {teacher.field}.checkpoint=FILE'
                )

    def forward(
        self, view1: Tensor, mode: Literal['loss', 'tensor'] = 'tensor', **about: Any
    ) -> dict[str, Tensor]:
        """One step's loss, or the tensors it is made of.

        Args:
            view1: ``[B, 3, H, W]``, normalized.
            mode: ``tensor`` returns, for each teacher, ``NAME`` and ``NAME_target``,
                ``[B, 1 + visible, width]``.
            about: What else the data set says of the images.
        """
        self.check_size(*view1.shape[-2:])
        outputs = self.outputs(view1, self.random_mask(view1, self.visible))
        return outputs if mode == 'tensor' else self.losses(outputs)

    def outputs(self, images: Tensor, mask: MaskRound) -> dict[str, Tensor]:
        """Projected student and normalized teachers; see :meth:`forward`."""
        student = self.student.tokens(images, mask.ids_visible)
        outputs = {}
        for name, teacher in self.teachers.items():
            with torch.no_grad():
                whole = teacher.tokens(images)
                seen = whole._replace(patches=take_tokens(whole.patches, mask.ids_visible))
                outputs[f'{name}_target'] = _normalized(_aligned(seen, student))
            projected = self.projectors[name](_aligned(student, seen))
            outputs[name] = _normalized(projected) if self.normalize_student else projected
        return outputs

    def losses(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` to minimize, and each teacher's, without weight, as ``alignment_NAME``."""
        parts = {
            name: F.smooth_l1_loss(
                outputs[name].float(), outputs[f'{name}_target'].float(), beta=self.beta
            )
            for name in self.teachers
        }
        return dict(
            loss=torch.stack([self.weights[name] * part for name, part in parts.items()]).sum(),
            **{f'alignment_{name}': part.detach() for name, part in parts.items()},
        )


def _check_file(path: str, field: str) -> None:
    if Path(path).is_dir():
        raise UserError(
            f'{field}: {path} is a folder. Name a checkpoint in it, such as epoch_N.pth.'
        )
    if not Path(path).is_file():
        raise UserError(f'{field}: {path} is no file. Give one: --cfg-options {field}=FILE')


def _aligned(tokens: Tokens, other: Tokens) -> Tensor:
    """Class token, where both have one, and patch tokens, ``[B, N, C]``."""
    count = min(1, tokens.prefix.shape[1], other.prefix.shape[1])
    return torch.cat([tokens.prefix[:, :count], tokens.patches], dim=1)


def _normalized(tokens: Tensor) -> Tensor:
    return F.layer_norm(tokens.float(), tokens.shape[-1:])
