"""MOCA: the student predicts the teacher's masked online codebook assignments.

Source: arXiv 2307.09361 (TMLR 2024) and its released pre-training code. Where they differ, the
field says which one it follows.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.backbone.patches import Pixels
from moca.engine.config_check import check_arguments
from moca.engine.ranges import check_positive, check_weight
from moca.errors import UserError
from moca.pretrain.base import PretrainMethod, init_linears
from moca.pretrain.moca.codebook import Codebook, perplexity
from moca.pretrain.moca.draws import Draws, check_words, make_draws
from moca.pretrain.moca.kl import Terms, assignment_kl, compiled_terms, terms
from moca.pretrain.moca.prototypes import PrototypeGenerator
from moca.pretrain.moca.targets import AssignmentTargets
from moca.pretrain.parts.decoder import FILLED, CondenserDecoder
from moca.pretrain.parts.ema import ema_update
from moca.pretrain.parts.masking import MaskRound, central_tokens, round_sizes


@MODELS.register_module()
class MOCAPretrain(PretrainMethod):
    """MOCA's networks and one training step.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        decoder: ``dim``, ``depth`` and ``num_heads`` of the condenser; 512, 2, 16.
        num_words: Codebook words K; 4096.
        words_per_step: Words replaced in a step over all processes together; 4. (The released
            code asks for 32, of which 4 survive on its 8 GPUs: each process updates its own
            codebook with 4, and DDP then broadcasts the first one's over the others'.)
        inv_delta: Inverse temperature of the assignments; 10.
        normalizer_decay: Of the running mean that the temperature is divided by; .99.
        kappa: Scale of the student's logits; 3, fixed.
        generator_mlp_ratio: Hidden width of the prototype generators over the encoder's; 2.
        image_weight: Weight of the image loss; .5.
        dense_weight: Weight of the dense loss; .5.
        mask_ratio: Share hidden from the encoder in rounds 1 and 2; .55, .75.
        decoder_mask_ratio: Share hidden from the decoder too; .35, .55.
        early_layer: How many blocks before the last the decoder's tokens are taken; 4.
        skip_offset: Border cells left out of the image target and of new words; 2.
        data_preprocessor: As in mmengine.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        decoder: dict[str, Any] | None = None,
        *,
        num_words: int = 4096,
        words_per_step: int = 4,
        inv_delta: float = 10.0,
        normalizer_decay: float = 0.99,
        kappa: float = 3.0,
        generator_mlp_ratio: float = 2.0,
        image_weight: float = 0.5,
        dense_weight: float = 0.5,
        mask_ratio: Sequence[float] = (0.55, 0.75),
        decoder_mask_ratio: Sequence[float] = (0.35, 0.55),
        early_layer: int = 4,
        skip_offset: int = 2,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, data_preprocessor, with_teacher=True)
        width, grid = self.student.embed_dims, self.student.grid
        self.early_index = self.student.num_layers - early_layer - 1
        if not 0 <= self.early_index < self.student.num_layers:
            raise UserError(
                f'early_layer={early_layer} names no block of a backbone of '
                f'{self.student.num_layers} blocks; choose 0 to {self.student.num_layers - 1}.'
            )
        check_arguments(CondenserDecoder, decoder or {}, 'model.decoder', FILLED)
        self.decoder = CondenserDecoder(width, grid, **(decoder or {}))
        self.codebook = Codebook(num_words, width, words_per_step, inv_delta, normalizer_decay)
        self.image_prototypes = PrototypeGenerator(width, width, generator_mlp_ratio)
        dense_width = self.decoder.embed.out_features
        self.dense_prototypes = PrototypeGenerator(width, dense_width, generator_mlp_ratio)

        self.kappa = check_positive(kappa, 'model.kappa')
        self._terms: Terms = terms
        self.image_weight = check_weight(image_weight, 'model.image_weight')
        self.dense_weight = check_weight(dense_weight, 'model.dense_weight')
        self.round_sizes = round_sizes(grid[0] * grid[1], mask_ratio, decoder_mask_ratio)
        self.register_buffer(
            'central', central_tokens(grid, skip_offset, torch.device('cpu')), persistent=False
        )

    def init_parts(self) -> None:
        """Initialize as the released code: Xavier-uniform linears, N(0, .02) tokens."""
        init_linears((self.decoder, self.image_prototypes, self.dense_prototypes))
        nn.init.normal_(self.decoder.mask_token, std=0.02)
        self.codebook.reset_parameters()

    # ------------------------------------------------------------------ one step

    def forward(
        self,
        view1: Tensor,
        view2: Tensor,
        draws: Draws | None = None,
        mode: Literal['loss', 'tensor'] = 'tensor',
        **about: Any,
    ) -> dict[str, Tensor]:
        """One step's losses, or the tensors they are made of.

        Args:
            view1: ``[B, 3, H, W]``, normalized.
            view2: Another view of each of the same images.
            draws: Random choices of the whole step to use instead of fresh ones.
            mode: ``loss`` moves teacher and codebook and returns the losses; ``tensor`` moves
                nothing and returns assignments and logits in full.
            about: What else the data set says of the images; hooks read it, this does not.
        """
        self.check_size(*view1.shape[-2:])
        # once, for teacher and student
        images = self.student.unfold(view1, view2)
        if mode == 'tensor':
            return self.outputs(images, draws or self.draw(len(view1), view1.device))
        number, count = self.part
        draws = draws or self.draw(len(view1) * count, view1.device)
        return self.loss(images, draws.part(number, count))

    def compile_losses(self) -> None:
        """Let the sums of the losses be compiled; see :func:`moca.backbone.compile`."""
        self._terms = compiled_terms()

    def check_batch(self, images: int, size: int | None) -> None:
        """Check as the base class does, and that there is an image for each new word."""
        check_words(images, self.codebook.words_per_step)
        super().check_batch(images, size)

    def draw(self, batch: int, device: torch.device) -> Draws:
        """The random choices of the current step; see :func:`moca.pretrain.moca.draws.make_draws`.

        Args:
            batch: Images of this process in the step.
            device: Of the masks.
        """
        return make_draws(
            self.seed,
            self.step,
            batch,
            self.round_sizes,
            self.decoder.pos_embed.shape[1] - 1,
            self.central.to(device),
            self.codebook.words_per_step,
        )

    def loss(self, images: Tensor | Pixels, draws: Draws) -> dict[str, Tensor]:
        """EMA step, targets, losses of both rounds, codebook step.

        Where gradients are accumulated, the batch comes in parts (:attr:`part`). The teacher moves
        before the first and the codebook after the last, so that the parts have the losses and
        gradients of the batch as a whole. (The released code moves the teacher before the last
        part, takes the new words from it alone, and moves the normalizer in each.)

        Args:
            images: ``cat(view1, view2)``, ``[2B, 3, H, W]``; or their pixels.
            draws: Random choices for them.

        Returns:
            ``loss`` to minimize; ``kl_image`` and ``kl_dense``, each the sum over the rounds and
            without weight, as the released code logs them; ``assignment_entropy`` of the dense
            targets in nats, the mean of both rounds; ``words_per_image``, the mean perplexity of
            the image targets; ``momentum``; and, of the last part, what :meth:`Codebook.step`
            reports. A collapse shows as ``words_in_use`` falling to ``words_per_image``.
        """
        if self.part[0] == 0:
            ema_update(self.teacher.parameters(), self.student.parameters(), self.momentum)
        teacher = self._teacher_tokens(images)
        summaries, dense = zip(*(self._predict(images, mask) for mask in draws.rounds), strict=True)
        rounds = len(draws.rounds)
        targets = AssignmentTargets(self.codebook, teacher, self.central, draws.rounds)
        kl_dense, entropy = assignment_kl(
            [features.flatten(0, 1) for features in dense],
            self.dense_prototypes(self.codebook.words),
            targets.dense(),
            self.kappa,
            self._terms,
        )
        del dense  # for the sake of the peak
        image_target = targets.image()
        kl_image, _ = assignment_kl(
            torch.cat(summaries),
            self.image_prototypes(self.codebook.words),
            image_target.repeat(rounds, 1),
            self.kappa,
            self._terms,
        )
        kl_image = rounds * kl_image
        # last, because the targets above are made of the words before their update
        moved = self.codebook.step(
            self.part, teacher, draws, targets.spreads(), image_target.mean(0)
        )
        return dict(
            loss=self.image_weight * kl_image + self.dense_weight * kl_dense,
            kl_image=kl_image.detach(),
            kl_dense=kl_dense.detach(),
            assignment_entropy=entropy / rounds,
            words_per_image=perplexity(image_target).mean(),
            momentum=torch.tensor(self.momentum),
            **moved,
        )

    @torch.no_grad()
    def outputs(self, images: Tensor | Pixels, draws: Draws) -> dict[str, Tensor]:
        """Assignments and logits in full, for inspection; nothing is updated.

        Returns:
            ``codes`` ``[2B, L, K]``, ``image_target`` ``[2B, K]``, and for each round r
            ``image_logits{r}`` ``[2B, K]`` and ``dense_logits{r}`` ``[2B, decoded, K]``.
        """
        teacher = self._teacher_tokens(images)
        targets = AssignmentTargets(self.codebook, teacher, self.central, draws.rounds)
        for _ in targets.dense():
            pass  # the image target is gathered on the way
        outputs = dict(
            codes=self.codebook.assign(self.codebook.similarities(teacher)),
            image_target=targets.image(),
        )
        # copies, whose BatchNorm may take note of the words
        image_prototypes, dense_prototypes = (
            copy.deepcopy(generator)(self.codebook.words)
            for generator in (self.image_prototypes, self.dense_prototypes)
        )
        for number, mask in enumerate(draws.rounds):
            summary, dense = self._predict(images, mask)
            outputs[f'image_logits{number}'] = self.kappa * summary @ image_prototypes.T
            outputs[f'dense_logits{number}'] = self.kappa * dense @ dense_prototypes.T
        return outputs

    # ------------------------------------------------------------------ parts of a step

    @torch.no_grad()
    def _teacher_tokens(self, images: Tensor | Pixels) -> Tensor:
        return self.teacher.tokens(images).patches

    def _predict(self, images: Tensor | Pixels, mask: MaskRound) -> tuple[Tensor, Tensor]:
        """The student's image feature ``[2B, C]`` and dense features ``[2B, decoded, D]``."""
        tokens = self.student.tokens(images, mask.ids_visible, layers=(self.early_index,))
        summary = tokens.patches.mean(dim=1)
        return summary, self.decoder(tokens.intermediate[0], summary, mask)
