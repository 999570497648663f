"""The first numbers of an encoder's features, beside those that were published of a photograph.

Source: huggingface/transformers, models/dinov3_vit/convert_dinov3_vit_to_hf.py: numbers of the
original code are held against those of transformers to 1e-4: image 000000039769 of COCO's val2017,
resized to 224 x 224 (bilinear, antialiased, squeezed to a square), after the final norm.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torchvision.transforms import functional as transforms

from moca.backbone import PlainViT
from moca.checkpoints.info import CheckpointInfo
from moca.evaluation.features import patch_map
from moca.evaluation.labeled import read_image

IMAGE = '000000039769.jpg'
"""Two cats, in COCO's val2017."""

SIZE = 224
"""Of the resized image, height and width in pixels."""

TOLERANCE = 2e-2
"""Largest difference that is called the same [our choice]: the published numbers are of the periods
in fp32, the original files hold them rounded to bfloat16, and decoders of JPEG files differ."""


@dataclass(frozen=True)
class FirstNumbers:
    """The first five numbers of the class token and of the upper left patch."""

    class_token: tuple[float, ...]
    patch: tuple[float, ...]


_DINOV3 = {
    (384, False): (
        'DINOv3 ViT-S/16',
        (0.4635618, -0.4156094, 0.4082369, -0.1266134, -0.2866369),
        (-0.0387542, -0.2508954, -0.0163929, -0.4554736, 0.5715822),
    ),
    (384, True): (
        'DINOv3 ViT-S+/16',
        (-0.4713494, -1.3657789, -0.3179832, 0.3772194, -0.7690857),
        (0.1445519, -0.3881175, -0.3934340, -0.1576955, -0.6003801),
    ),
    (768, False): (
        'DINOv3 ViT-B/16',
        (1.0346432, -0.1806093, -0.3410183, -0.0663770, -0.0113840),
        (-0.0825237, -0.4562728, -0.7280300, -0.4306802, -0.1528802),
    ),
    (1024, False): (
        'DINOv3 ViT-L/16',
        (0.4845271, -0.5822147, 0.4806361, 0.5920404, 0.9451665),
        (-0.2113674, -0.4908636, -0.2571315, 0.1017639, 0.1545112),
    ),
    (1280, True): (
        'DINOv3 ViT-H+/16',
        (-0.0645759, -0.1488668, -0.6215244, 0.6348788, 0.1526957),
        (-0.0938174, 0.2874072, -0.0500369, 0.4280432, 0.0945618),
    ),
    (4096, True): (
        'DINOv3 ViT-7B/16',
        (0.2754395, -0.2613540, 0.0677720, 0.0499362, -0.1587471),
        (0.0444420, -0.0525421, 0.0707775, -0.0651117, -0.0265465),
    ),
}


def published_numbers(info: CheckpointInfo) -> tuple[str, FirstNumbers] | None:
    """The model that an encoder looks like, and what was published of it; None if nothing was.

    Other trainings have the same shapes (SAT-493M, EUPE, LingBot-Vision): their numbers differ.
    """
    if 'DINOv3' not in info.family:
        return None
    found = _DINOV3.get((info.embed_dim, info.gated))
    return None if found is None else (found[0], FirstNumbers(*found[1:]))


@torch.no_grad()
def first_numbers(model: PlainViT, image: Path) -> FirstNumbers:
    """What a backbone in eval mode makes of an image; no class token gives no numbers of it.

    Raises:
        UserError: The image cannot be decoded.
    """
    pixels = transforms.to_tensor(read_image(image))
    square = transforms.resize(pixels, [SIZE, SIZE], antialias=True)
    batch = transforms.normalize(square, model.mean, model.std)[None]
    device = model.patch_embed.proj.weight.device
    prefix = model.tokens(batch.to(device)).prefix
    token = prefix[0, 0, :5].float().tolist() if model.cls_token is not None else []
    patch = patch_map(model, batch)[0, :5, 0, 0].tolist()
    return FirstNumbers(tuple(token), tuple(patch))


def largest_difference(found: FirstNumbers, published: FirstNumbers) -> float:
    """The largest absolute difference of the numbers that both have."""
    pairs = [*zip(found.class_token, published.class_token, strict=False)]
    pairs += zip(found.patch, published.patch, strict=True)
    return max(abs(a - b) for a, b in pairs)
