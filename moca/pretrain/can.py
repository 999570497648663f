"""CAN: contrastive learning, masked autoencoding and noise prediction at once.

Source: arXiv 2210.16870; what its figures and tables do not say is from public code or a choice.

- Paper: two SimCLR views, both masked at random, half of the patches; one encoder, without moving
  average, predictor, stop-gradient or bank. Noise ``sigma * e``, sigma ~ U[0, sigma_max] for each
  view and image, is added before patches are cut. The mask token has the encoder's width and comes
  before the decoder's linear embedding; a two-layer ReLU MLP of a sinusoidal embedding of sigma is
  added to every token, seen and hidden. InfoNCE on the mean of the seen patch tokens (without class
  token), over a projector; squared error of hidden patches against the *clean* view, and of the
  noise on seen ones.
- Code: ``sigma_max`` .05 after normalization by mean and deviation; the projector's sizes
  (``projector``: 4096, 4096, 128, batch norm over processes) and ``temperature`` .1; the weights
  .03, .67, .30.
- Choices: ``norm_pix`` for the reconstruction's target (never for the noise, which is its own
  target); ``sigma_scale``, 1000 / sigma_max, because a base-10000 sinusoid hardly notices numbers
  below .05; ``denoise_target_scale`` 1; the size of a smaller encoder's ``decoder``; the class
  token gets the embedding of sigma as well.
"""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import torch
from mmengine.dist import get_world_size
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.engine.ranges import check_number, check_positive, check_weight
from moca.pretrain.base import init_linears
from moca.pretrain.parts.contrastive import build_projector, check_contrastive, nt_xent
from moca.pretrain.parts.decoder import EarlyMaskDecoder
from moca.pretrain.parts.masking import MaskRound, take_tokens, visible_tokens
from moca.pretrain.parts.reconstruction import PixelMethod, patch_error, patchify

# Angles of the sinusoid at the strongest noise, as wide as those of a long text's positions.
_ANGLES = 1000.0


class NoisyDraws(NamedTuple):
    """Random choices of a step for ``cat(view1, view2)``.

    Attributes:
        mask: Which patches are seen.
        sigma: Strength of the noise, ``[2B]``.
        noise: Of deviation 1, ``[2B, 3, H, W]``.
    """

    mask: MaskRound
    sigma: Tensor
    noise: Tensor


@MODELS.register_module()
class CANPretrain(PixelMethod):
    """CAN's networks and one training step.

    Args:
        backbone: Config of the student, a :class:`moca.backbone.PlainViT`.
        decoder: ``dim``, ``depth``, ``num_heads``, ``mlp_ratio``; 8 x 512 with 16 heads for ViT-B.
        projector: ``hidden_dim`` 4096 and ``out_dim`` 128.
        mask_ratio: Share of the patches that is hidden; .5, for both views.
        sigma_max: Of the noise, for normalized pixels; .05.
        sigma_scale: What sigma is multiplied by before its sinusoid; 1000 / sigma_max.
        temperature: Of the contrastive loss; .1.
        contrastive_weight: .03.
        reconstruction_weight: .67.
        denoising_weight: .3.
        norm_pix: Normalize the pixels of each patch that is reconstructed.
        denoise_target_scale: What the noise is multiplied by as a target; 1.
        data_preprocessor: As in mmengine.

    Raises:
        UserError: A field is out of its range, or the mask leaves no token visible.
    """

    decoder_class = EarlyMaskDecoder

    def __init__(
        self,
        backbone: dict[str, Any],
        decoder: dict[str, Any] | None = None,
        projector: dict[str, Any] | None = None,
        *,
        mask_ratio: float = 0.5,
        sigma_max: float = 0.05,
        sigma_scale: float | None = None,
        temperature: float = 0.1,
        contrastive_weight: float = 0.03,
        reconstruction_weight: float = 0.67,
        denoising_weight: float = 0.3,
        norm_pix: bool = True,
        denoise_target_scale: float = 1.0,
        data_preprocessor: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(backbone, decoder, norm_pix, data_preprocessor)
        self.visible = visible_tokens(self.num_patches, mask_ratio, 'model.mask_ratio')
        self.projector = build_projector(
            self.student.embed_dims, projector, hidden_dim=4096, out_dim=128
        )
        width = self.student.embed_dims
        self.sigma_mlp = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.sigma_max = check_weight(sigma_max, 'model.sigma_max')
        if sigma_scale is None:
            sigma_scale = _ANGLES / (sigma_max or 1.0)
        self.sigma_scale = check_number(sigma_scale, 'model.sigma_scale')
        self.temperature = check_positive(temperature, 'model.temperature')
        self.contrastive_weight = check_weight(contrastive_weight, 'model.contrastive_weight')
        self.reconstruction_weight = check_weight(
            reconstruction_weight, 'model.reconstruction_weight'
        )
        self.denoising_weight = check_weight(denoising_weight, 'model.denoising_weight')
        self.denoise_target_scale = check_weight(denoise_target_scale, 'model.denoise_target_scale')

    def init_parts(self) -> None:
        """Initialize all linears as the decoder's (our choice)."""
        super().init_parts()
        init_linears([self.projector, self.sigma_mlp])

    def check_batch(self, images: int, size: int | None) -> None:
        """Check as the base class does, and that the batch has two images, not split."""
        check_contrastive(images, self.part)
        super().check_batch(images, size)

    def draw(self, images: Tensor) -> NoisyDraws:
        """The random choices of the current step for ``cat(view1, view2)``, ``[2B, 3, H, W]``."""
        generator = self.generator(images.device, stream=1)
        sigma = torch.rand(len(images), generator=generator, device=images.device)
        noise = torch.randn(images.shape, generator=generator, device=images.device)
        return NoisyDraws(self.random_mask(images, self.visible), self.sigma_max * sigma, noise)

    def forward(
        self, view1: Tensor, view2: Tensor, mode: Literal['loss', 'tensor'] = 'tensor', **about: Any
    ) -> dict[str, Tensor]:
        """One step's losses, or the tensors they are made of; see :meth:`outputs`.

        Args:
            view1: ``[B, 3, H, W]``, normalized.
            view2: Another view of each of the same images.
            mode: ``loss`` or ``tensor``.
            about: What else the data set says of the images.
        """
        check_contrastive(len(view1) * get_world_size(), self.part)
        self.check_size(*view1.shape[-2:])
        images = torch.cat([view1, view2])
        outputs = self.outputs(images, self.draw(images))
        return outputs if mode == 'tensor' else self.losses(outputs)

    def outputs(self, images: Tensor, draws: NoisyDraws) -> dict[str, Tensor]:
        """What the losses are made of.

        Args:
            images: ``cat(view1, view2)``, ``[2B, 3, H, W]``, without noise.
            draws: Random choices for them.

        Returns:
            ``embeddings`` ``[2B, D]``; ``prediction`` ``[2B, L, P]`` in the order of the mask, seen
            patches first; ``pixels`` ``[2B, hidden, P]`` and ``noise`` ``[2B, visible, P]``, the
            targets.
        """
        mask, sigma, noise = draws
        added = sigma[:, None, None, None] * noise
        tokens = self.student.tokens(images + added, mask.ids_visible)
        shift = self.sigma_mlp(sinusoid(self.sigma_scale * sigma, self.student.embed_dims))
        noise_patches = patchify(added, self.student.patch_size)
        return dict(
            embeddings=self.projector(tokens.patches.mean(1)),
            prediction=self.decoder.head(self.decoder(tokens, mask, shift)),
            pixels=self.pixels(images, mask.ids_hidden),
            noise=self.denoise_target_scale * take_tokens(noise_patches, mask.ids_visible),
        )

    def losses(self, outputs: dict[str, Tensor]) -> dict[str, Tensor]:
        """``loss`` to minimize, and its three parts without weight."""
        prediction = outputs['prediction']
        visible = outputs['noise'].shape[1]
        first, second = outputs['embeddings'].chunk(2)
        contrastive = nt_xent(first, second, self.temperature)
        reconstruction = patch_error(prediction[:, visible:], outputs['pixels'])
        denoising = patch_error(prediction[:, :visible], outputs['noise'])
        loss = (
            self.contrastive_weight * contrastive
            + self.reconstruction_weight * reconstruction
            + self.denoising_weight * denoising
        )
        return dict(
            loss=loss,
            contrastive=contrastive.detach(),
            reconstruction=reconstruction.detach(),
            denoising=denoising.detach(),
        )


def sinusoid(position: Tensor, dim: int) -> Tensor:
    """Sines, then cosines, of positions ``[B]`` at ``dim / 2`` frequencies of base 10000."""
    half = dim // 2
    frequency = 10000.0 ** -(torch.arange(half, device=position.device) / half)
    angle = position.float()[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)
