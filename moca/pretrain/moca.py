"""MOCA: the student predicts the teacher's masked online codebook assignments.

Source: arXiv 2307.09361 (TMLR 2024) and its released pre-training code. Where they differ, the
field says which one it follows.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import Any, Literal

import torch
from mmengine.dist import get_rank
from mmengine.model import BaseModel
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.engine.config_check import check_arguments
from moca.errors import UserError
from moca.pretrain.codebook import Codebook, perplexity
from moca.pretrain.decoder import CondenserDecoder
from moca.pretrain.draws import Draws, make_draws
from moca.pretrain.ema import ema_update, teacher_of
from moca.pretrain.losses import assignment_kl
from moca.pretrain.masking import MaskRound, central_tokens, round_sizes
from moca.pretrain.prototypes import PrototypeGenerator
from moca.pretrain.targets import AssignmentTargets


@MODELS.register_module()
class MOCAPretrain(BaseModel):
    """MOCA's networks and one training step.

    Random draws depend on the run's seed, the step and the process alone, so a resumed run
    continues as if it had not stopped.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        decoder: ``dim``, ``depth`` and ``num_heads`` of the condenser; 512, 2, 16.
        num_words: Codebook words K; 4096.
        words_per_step: Words replaced in a step over all processes together; 4. (The released
            code asks for 32, of which 4 survive on its 8 GPUs: each process updates its own
            codebook with 4, and DDP then broadcasts the first one's over the others'.)
        inv_delta: Inverse temperature of the assignments; 10.
        normaliser_decay: Of the running mean that the temperature is divided by; .99.
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
        normaliser_decay: float = 0.99,
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
        super().__init__(data_preprocessor)
        # positions are fixed in pre-training, as in MAE
        backbone = {'train_pos_embed': False, **backbone}
        self.student: PlainViT = MODELS.build(backbone)
        self.teacher: PlainViT = MODELS.build(backbone)
        width, grid = self.student.embed_dims, self.student.grid
        self.early_index = self.student.num_layers - early_layer - 1
        if not 0 <= self.early_index < self.student.num_layers:
            raise UserError(
                f'early_layer={early_layer} names no block of a backbone of '
                f'{self.student.num_layers} blocks; choose 0 to {self.student.num_layers - 1}.'
            )
        check_arguments(CondenserDecoder, decoder or {}, 'model.decoder')
        self.decoder = CondenserDecoder(width, grid, **(decoder or {}))
        self.codebook = Codebook(num_words, width, words_per_step, inv_delta, normaliser_decay)
        self.image_prototypes = PrototypeGenerator(width, width, generator_mlp_ratio)
        dense_width = self.decoder.embed.out_features
        self.dense_prototypes = PrototypeGenerator(width, dense_width, generator_mlp_ratio)

        self.kappa = kappa
        self.image_weight, self.dense_weight = image_weight, dense_weight
        self.round_sizes = round_sizes(grid[0] * grid[1], mask_ratio, decoder_mask_ratio)
        self.register_buffer(
            'central', central_tokens(grid, skip_offset, torch.device('cpu')), persistent=False
        )
        # set by the PretrainSchedule hook: the seed of the run, and every step the other two
        self.seed = 0
        self.step = 0
        self.momentum = 1.0
        # set by the loop: which part of the step's batch comes next, and of how many
        self.part = (0, 1)
        # of the parts before it
        self._spreads: list[Tensor] = []
        self._picked: list[Tensor] = []
        teacher_of(self.student, self.teacher)

    def init_weights(self) -> None:
        """Initialise as the released code: Xavier-uniform linears, N(0, .02) tokens."""
        for module in (self.decoder, self.image_prototypes, self.dense_prototypes):
            for layer in module.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    if layer.bias is not None:
                        nn.init.zeros_(layer.bias)
        nn.init.normal_(self.decoder.mask_token, std=0.02)
        self.codebook.reset_parameters()
        self.student.init_weights()
        teacher_of(self.student, self.teacher)

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
            view1: ``[B, 3, H, W]``, normalised.
            view2: Another view of each of the same images.
            draws: Random choices of the whole step to use instead of fresh ones.
            mode: ``loss`` moves teacher and codebook and returns the losses; ``tensor`` moves
                nothing and returns assignments and logits in full.
            about: What else the data set says of the pictures; hooks read it, this does not.
        """
        side = tuple(math.ceil(length / self.student.patch_size) for length in view1.shape[-2:])
        if side != self.student.grid:
            raise UserError(
                f'views of {tuple(view1.shape[-2:])} pixels make {side} patches, the model was '
                f'built for {self.student.grid}. Set model.backbone.img_size to the size of '
                'train_dataloader.dataset.views.'
            )
        images = torch.cat([view1, view2])
        if mode == 'tensor':
            return self.outputs(images, draws or self.draw(len(view1), view1.device))
        number, count = self.part
        draws = draws or self.draw(len(view1) * count, view1.device)
        return self.loss(images, draws.part(number, count))

    def draw(self, batch: int, device: torch.device) -> Draws:
        """The random choices of the current step; see :func:`moca.pretrain.draws.make_draws`.

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

    def loss(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        """EMA step, targets, losses of both rounds, codebook step.

        Where gradients are accumulated, the batch comes in parts (:attr:`part`). The teacher moves
        before the first and the codebook after the last, so that the parts have the losses and
        gradients of the batch as a whole. (The released code moves the teacher before the last
        part, takes the new words from it alone, and moves the normaliser in each.)

        Args:
            images: ``cat(view1, view2)``, ``[2B, 3, H, W]``.
            draws: Random choices for them.

        Returns:
            ``loss`` to minimise; ``kl_image`` and ``kl_dense``, each the sum over the rounds and
            without weight, as the released code logs them; ``normaliser``, ``momentum``;
            ``assignment_entropy``, the mean over the dense targets in nats; and the perplexities
            of the image targets: ``words_in_use`` over the whole batch and ``words_per_image``. A
            collapse shows as the first falling to the second.
        """
        if self.part[0] == 0:
            ema_update(self.teacher.parameters(), self.student.parameters(), self.momentum)
        teacher = self._teach(images)
        patches = self.student.embed(images)
        summaries, dense = zip(
            *(self._predict(patches, mask) for mask in draws.rounds), strict=True
        )
        rounds = len(draws.rounds)
        targets = AssignmentTargets(self.codebook, teacher, self.central, draws.rounds)
        kl_dense, entropy = assignment_kl(
            torch.cat(dense, dim=1).flatten(0, 1),
            self.dense_prototypes(self.codebook.words),
            targets.dense(),
            self.kappa,
            targets.weights,
        )
        image_target = targets.image()
        kl_image, _ = assignment_kl(
            torch.cat(summaries),
            self.image_prototypes(self.codebook.words),
            image_target.repeat(rounds, 1),
            self.kappa,
        )
        kl_image = rounds * kl_image
        # last, because the targets above are made of the words before their update
        self._update_codebook(teacher, targets.spreads(), draws)
        return dict(
            loss=self.image_weight * kl_image + self.dense_weight * kl_dense,
            kl_image=kl_image.detach(),
            kl_dense=kl_dense.detach(),
            normaliser=self.codebook.normaliser.clone(),
            assignment_entropy=entropy / rounds,
            words_in_use=perplexity(image_target.mean(0)),
            words_per_image=perplexity(image_target).mean(),
            momentum=torch.tensor(self.momentum),
        )

    @torch.no_grad()
    def outputs(self, images: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Assignments and logits in full, for inspection; nothing is updated.

        Returns:
            ``codes`` ``[2B, L, K]``, ``image_target`` ``[2B, K]``, and for each round r
            ``image_logits{r}`` ``[2B, K]`` and ``dense_logits{r}`` ``[2B, decoded, K]``.
        """
        teacher = self._teach(images)
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
        patches = self.student.embed(images)
        for number, mask in enumerate(draws.rounds):
            summary, dense = self._predict(patches, mask)
            outputs[f'image_logits{number}'] = self.kappa * summary @ image_prototypes.T
            outputs[f'dense_logits{number}'] = self.kappa * dense @ dense_prototypes.T
        return outputs

    # ------------------------------------------------------------------ parts of a step

    @torch.no_grad()
    def _teach(self, images: Tensor) -> Tensor:
        return self.teacher.tokens(images).patches

    @torch.no_grad()
    def _update_codebook(self, teacher: Tensor, spreads: Tensor, draws: Draws) -> None:
        """Take note of this part of the batch; after the last, move normaliser and words."""
        number, count = self.part
        if number == 0:
            self._spreads, self._picked = [], []
        view = teacher.chunk(2)[draws.word_view]
        first = (get_rank() * count + number) * len(view)
        self._spreads.append(spreads.unflatten(0, (2, -1)).mean(1))
        self._picked.append(self.codebook.pick(view, draws.word_images, draws.word_tokens, first))
        if number < count - 1:
            return
        for spread in torch.stack(self._spreads).mean(0):
            self.codebook.track(spread)
        self.codebook.update(torch.stack(self._picked).sum(0))

    def _predict(self, patches: Tensor, mask: MaskRound) -> tuple[Tensor, Tensor]:
        """The student's image feature ``[2B, C]`` and dense features ``[2B, decoded, D]``."""
        tokens = self.student.encode(patches, mask.ids_visible, layers=(self.early_index,))
        summary = tokens.patches.mean(dim=1)
        return summary, self.decoder(tokens.intermediate[0], summary, mask)
