"""MACRL: asymmetric masked contrastive learning with reconstruction in both branches.

Source: arXiv 2211.06012, of which only the abstract is public here.

- Paper: a Siamese network with encoder *and* decoder in both branches; one branch has a higher mask
  ratio and stronger augmentation than the other; a contrastive objective on the encoder's features
  of both, an L1 reconstruction on the decoders' outputs; encoder, decoder, projector, memory bank.
- Choices, all of them fields or the config's views: ``mask_ratio`` .75 for the strong and .5 for
  the weak view; strong is MoCo-v2's augmentation, weak is crop and flip; the key branch is a
  moving average of encoder and projector (momentum of the schedule: .99 to 1) whose keys get no
  gradient; both views are reconstructed by the *online* encoder and decoder; the strong view
  queries, the weak one, masked as well, gives the key; features are the mean of the seen patch
  tokens; ``projector`` d-4096-4096-256 with batch norm; ``bank_size`` keys, of past steps alone,
  4096 for small data and 65536 for ImageNet, less for fewer images than twice that, which would
  meet their own earlier keys in it; ``temperature`` .2, the loss times 2 * temperature as
  in MoCo-v3; L1 on hidden patches, whose pixels are normalized (``norm_pix``);
  ``reconstruction_weight`` .5 for each view, ``contrastive_weight`` 1; the size of a smaller
  encoder's ``decoder``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import chain
from typing import Any, Literal

import torch
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor

from moca.backbone import Tokens
from moca.engine.ranges import check_pair, check_positive, check_weight
from moca.pretrain.base import init_linears
from moca.pretrain.parts.contrastive import KeyBank, build_projector, check_contrastive, info_nce
from moca.pretrain.parts.ema import copy_to_teacher, ema_update
from moca.pretrain.parts.masking import MaskRound
from moca.pretrain.parts.reconstruction import PixelMethod, num_visible, patch_error


@MODELS.register_module()
class MACRLPretrain(PixelMethod):
    """MACRL's networks and one training step. Its first view is the strong one.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        decoder: ``dim``, ``depth``, ``num_heads``, ``mlp_ratio``; 8 x 512 with 16 heads for ViT-B.
        projector: ``hidden_dim`` 4096 and ``out_dim`` 256.
        mask_ratio: Share of the patches that is hidden in the strong and in the weak view.
        bank_size: Keys in the bank; a multiple of the images of a step, and a small part of the
            data set.
        temperature: Of the contrastive loss; .2.
        reconstruction_weight: Of each view; .5.
        contrastive_weight: 1.
        norm_pix: Normalize the pixels of each patch.
        data_preprocessor: As in mmengine.

    Raises:
        UserError: A field is out of its range, or a mask leaves no token visible or none hidden.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        decoder: dict[str, Any] | None = None,
        projector: dict[str, Any] | None = None,
        *,
        mask_ratio: Sequence[float] = (0.75, 0.5),
        bank_size: int = 65536,
        temperature: float = 0.2,
        reconstruction_weight: float = 0.5,
        contrastive_weight: float = 1.0,
        norm_pix: bool = True,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, decoder, norm_pix, data_preprocessor, with_teacher=True)
        ratios = check_pair(mask_ratio, 'model.mask_ratio', 'the strong view and the weak one')
        self.visible = [num_visible(self.num_patches, ratio) for ratio in ratios]
        self.projector, self.teacher_projector = (
            build_projector(self.student.embed_dims, projector, hidden_dim=4096, out_dim=256)
            for _ in range(2)
        )
        copy_to_teacher(self.projector, self.teacher_projector)
        self.bank = KeyBank(bank_size, self.projector.out_dim)
        self.temperature = check_positive(temperature, 'model.temperature')
        self.reconstruction_weight = check_weight(
            reconstruction_weight, 'model.reconstruction_weight'
        )
        self.contrastive_weight = check_weight(contrastive_weight, 'model.contrastive_weight')

    def init_parts(self) -> None:
        """Initialize all linears as the decoder's (our choice), and the bank at random."""
        super().init_parts()
        init_linears([self.projector])
        copy_to_teacher(self.projector, self.teacher_projector)
        self.bank.reset_parameters()

    def check_batch(self, images: int, size: int | None) -> None:
        """Check as the base class does, that two images come at once, and a bank for them.

        See :meth:`moca.pretrain.parts.contrastive.KeyBank.check_batch`.
        """
        check_contrastive(images, self.part)
        self.bank.check_batch(images, self.num_images)
        super().check_batch(images, size)

    def draw(self, strong: Tensor, weak: Tensor) -> tuple[MaskRound, MaskRound]:
        """Masks of both views for the current step."""
        return (
            self.random_mask(strong, self.visible[0], stream=0),
            self.random_mask(weak, self.visible[1], stream=1),
        )

    def forward(
        self, view1: Tensor, view2: Tensor, mode: Literal['loss', 'tensor'] = 'tensor', **about: Any
    ) -> dict[str, Tensor]:
        """One step's losses, or the tensors they are made of.

        Args:
            view1: Strongly augmented, ``[B, 3, H, W]``, normalized.
            view2: Weakly augmented, of the same images.
            mode: ``loss`` moves teacher and bank; ``tensor`` moves nothing and returns ``query``
                and ``key``, ``[B, D]``, and ``prediction{v}`` and ``pixels{v}`` of the hidden
                patches of view v.
            about: What else the data set says of the images.
        """
        check_contrastive(len(view1) * get_world_size(), self.part)
        self.check_size(*view1.shape[-2:])
        masks = self.draw(view1, view2)
        if mode == 'tensor':
            return self.outputs((view1, view2), masks)
        ema_update(
            chain(self.teacher.parameters(), self.teacher_projector.parameters()),
            chain(self.student.parameters(), self.projector.parameters()),
            self.momentum,
        )
        outputs = self.outputs((view1, view2), masks)
        losses = self.losses(outputs)
        self.bank.enqueue(outputs['key'])  # after the loss, which sees past steps alone
        return losses

    def outputs(
        self, views: tuple[Tensor, Tensor], masks: tuple[MaskRound, MaskRound]
    ) -> dict[str, Tensor]:
        """What the losses are made of; see :meth:`forward`."""
        outputs = {}
        for number, (view, mask) in enumerate(zip(views, masks, strict=True), start=1):
            tokens = self.student.tokens(view, mask.ids_visible)
            features = self.decoder(tokens, mask)
            outputs[f'prediction{number}'] = self.decoder.head(features[:, mask.visible :])
            outputs[f'pixels{number}'] = self.pixels(view, mask.ids_hidden)
            if number == 1:
                outputs['query'] = self.projector(_feature(tokens))
        with torch.no_grad():
            tokens = self.teacher.tokens(views[1], masks[1].ids_visible)
            outputs['key'] = self.teacher_projector(_feature(tokens))
        return outputs

    def losses(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` to minimize, its parts without weight, and the momentum."""
        strong, weak = (
            patch_error(outputs[f'prediction{view}'], outputs[f'pixels{view}'], 'absolute')
            for view in (1, 2)
        )
        bank = self.bank.keys.clone()  # which moves on before the backward pass
        nce = info_nce(outputs['query'], outputs['key'], bank, self.temperature)
        contrastive = 2 * self.temperature * nce
        loss = self.reconstruction_weight * (strong + weak) + self.contrastive_weight * contrastive
        return dict(
            loss=loss,
            contrastive=contrastive.detach(),
            reconstruction_strong=strong.detach(),
            reconstruction_weak=weak.detach(),
            momentum=torch.tensor(self.momentum),
        )


def _feature(tokens: Tokens) -> Tensor:
    return tokens.patches.mean(dim=1)
