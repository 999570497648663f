"""MOCA's step as one would first write it down, in the order of the paper: start reading here.

:meth:`PlainMOCA.forward` is the method on one screen; the functions below it are its parts. Given
the same draws it has the losses and gradients of :class:`moca.pretrain.moca.MOCAPretrain`, which
tests verify; benchmarks measure ours against it. It uses timm's blocks with their default attention
and torch's own loss, and computes nothing twice. But assignments and logits are full tensors, one
view follows the other, and so does one parameter of the moving average.
"""

from __future__ import annotations

import copy

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.pretrain.moca.codebook import Codebook
from moca.pretrain.moca.draws import Draws
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.moca.prototypes import PrototypeGenerator
from moca.pretrain.parts.decoder import CondenserDecoder
from moca.pretrain.parts.masking import MaskRound

# Of all L2 normalizations.
_EPS = 1e-5


class PlainMOCA(nn.Module):
    """One process's step of MOCA on full tensors.

    Args:
        model: Where weights, codebook and settings are copied from; names stay the same.
    """

    central: Tensor

    def __init__(self, model: MOCAPretrain) -> None:
        super().__init__()
        self.student = copy.deepcopy(model.student)
        self.teacher = copy.deepcopy(model.teacher)
        self.decoder = copy.deepcopy(model.decoder)
        self.codebook = copy.deepcopy(model.codebook)
        self.image_prototypes = copy.deepcopy(model.image_prototypes)
        self.dense_prototypes = copy.deepcopy(model.dense_prototypes)
        self.register_buffer('central', model.central.clone(), persistent=False)
        self.early_index, self.kappa, self.momentum = (
            model.early_index,
            model.kappa,
            model.momentum,
        )
        self.weights = (model.image_weight, model.dense_weight)
        for block in (*self.student.blocks, *self.teacher.blocks, *self.decoder.blocks):
            block.attn.fused_attn = True  # timm's default; ours chooses by device and type

    def forward(self, view1: Tensor, view2: Tensor, draws: Draws) -> dict[str, Tensor]:
        """Losses of one step, which moves teacher and codebook.

        Args:
            view1: ``[B, 3, H, W]``, normalized.
            view2: Likewise.
            draws: The random choices.

        Returns:
            ``loss``, ``kl_image`` and ``kl_dense``.
        """
        views, batch = (view1, view2), len(view1)

        with torch.no_grad():
            # The teacher, a moving average of the student, sees both views whole ...
            self.move_teacher()
            features = [encode(self.teacher, view)[0] for view in views]
            # ... and each of its tokens is assigned to the words of the codebook.
            codes = torch.cat([assign(self.codebook, feature) for feature in features])

            # Image target: the mean assignment of the central tokens of the *other* view.
            bags = F.normalize(codes[:, self.central].mean(1), p=1, dim=1)
            image_targets = bags[batch:], bags[:batch]
            # Dense target: the assignments of the *same* view.
            dense_targets = codes[:batch], codes[batch:]

        # Prototypes, which stand for the words, are generated from the words themselves.
        image_prototypes = generate(self.image_prototypes, self.codebook.words)
        dense_prototypes = generate(self.dense_prototypes, self.codebook.words)

        kl_image = kl_dense = view1.new_zeros(())
        for mask in draws.rounds:  # two masks that complement each other
            for number, view in enumerate(views):
                order = mask.order[number * batch : (number + 1) * batch]
                part = MaskRound(order, mask.visible, mask.decoded)

                # The student sees the visible tokens; their mean is its feature of the image.
                tokens, early = encode(self.student, view, part.ids_visible, self.early_index)
                summary = tokens.mean(1)
                # The condenser decodes an earlier block's tokens, that mean and mask tokens.
                dense = decode(self.decoder, early, summary, part)

                image_logits = self.kappa * summary @ image_prototypes.T
                dense_logits = self.kappa * dense @ dense_prototypes.T
                target = take(dense_targets[number], part.ids_decoded)
                # means over the 2B images and their tokens, summed over the masks
                kl_image = kl_image + kl(image_logits, image_targets[number]) / 2
                kl_dense = kl_dense + kl(dense_logits, target) / 2

        # A few teacher tokens replace the oldest words, after the words have been used.
        update(self.codebook, features[draws.word_view][draws.word_images, draws.word_tokens])

        loss = self.weights[0] * kl_image + self.weights[1] * kl_dense
        return dict(loss=loss, kl_image=kl_image.detach(), kl_dense=kl_dense.detach())

    def move_teacher(self) -> None:
        """The exponential moving average of the student, one parameter after the other."""
        pairs = zip(self.teacher.parameters(), self.student.parameters(), strict=True)
        for teacher, student in pairs:
            teacher.mul_(self.momentum).add_(student, alpha=1 - self.momentum)


def encode(
    vit: PlainViT, images: Tensor, ids_keep: Tensor | None = None, early_index: int = -1
) -> tuple[Tensor, Tensor]:
    """Patch tokens after the last block, normalized, and after block ``early_index``, not."""
    x = vit.patch_embed.proj(images).flatten(2).transpose(1, 2) + vit.pos_embed[:, 1:]
    if ids_keep is not None:
        x = take(x, ids_keep)
    cls = (vit.cls_token + vit.pos_embed[:, :1]).expand(len(x), -1, -1)
    x = torch.cat([cls, x], dim=1)
    early = x
    for index, block in enumerate(vit.blocks):
        x = block(x)
        if index == early_index:
            early = x
    return vit.norm(x)[:, 1:], early[:, 1:]


def decode(decoder: CondenserDecoder, early: Tensor, summary: Tensor, mask: MaskRound) -> Tensor:
    """Dense features ``[B, decoded, D]`` of visible and hidden tokens."""
    x = decoder.embed(torch.cat([summary[:, None], decoder.norm_in(early)], dim=1))
    hidden = decoder.mask_token.expand(len(x), mask.decoded - mask.visible, -1)
    x = torch.cat([x, hidden], dim=1)
    table = decoder.pos_embed.expand(len(x), -1, -1)
    x = x + torch.cat([table[:, :1], take(table[:, 1:], mask.ids_decoded)], dim=1)
    for block in decoder.blocks:
        x = block(x)
    return decoder.norm(x)[:, 1:]


def generate(generator: PrototypeGenerator, words: Tensor) -> Tensor:
    """Prototypes ``[K, D]``."""
    words = F.normalize(words, dim=1, eps=_EPS)
    hidden = F.relu(generator.bn(generator.fc(words)))
    return F.normalize(generator.out(hidden) + generator.skip(words), dim=1, eps=_EPS)


def assign(codebook: Codebook, features: Tensor) -> Tensor:
    """Assignments of all tokens, ``[B, L, K]``; moves the normalizer."""
    with torch.autocast(features.device.type, enabled=False):
        cosine = F.normalize(features.float(), dim=-1, eps=_EPS) @ codebook.words.T
    codes = torch.softmax(cosine * (codebook.inv_delta / codebook.frozen_normalizer), dim=-1)
    spread = (cosine.amax(-1) - cosine.mean(-1)).mean()
    codebook.normalizer.mul_(codebook.decay).add_(spread, alpha=1 - codebook.decay)
    return codes


@torch.no_grad()
def update(codebook: Codebook, tokens: Tensor) -> None:
    """Overwrite the oldest words by teacher tokens ``[n, C]``; freeze the normalizer."""
    count = len(codebook.words)
    rows = (codebook.pointer + torch.arange(len(tokens), device=tokens.device)) % count
    codebook.words[rows] = F.normalize(tokens.float(), dim=-1, eps=_EPS)
    codebook.pointer.add_(len(tokens)).remainder_(count)
    codebook.frozen_normalizer.copy_(codebook.normalizer)
    codebook.updates.add_(1)


def take(tokens: Tensor, ids: Tensor) -> Tensor:
    """The rows ``[B, N, C]`` that ``ids`` ``[B, N]`` name among ``[B, L, C]``."""
    return torch.gather(tokens, 1, ids[..., None].expand(-1, -1, tokens.shape[-1]))


def kl(logits: Tensor, target: Tensor) -> Tensor:
    """Mean KL(target || softmax(logits)) over all but the last dimension."""
    log_p = F.log_softmax(logits.float(), dim=-1)
    return F.kl_div(log_p.flatten(0, -2), target.flatten(0, -2), reduction='batchmean')
