"""Models with random, telling weights, and files of them, for the tests of the backbone."""

from pathlib import Path
from typing import Any

import timm
import torch
from timm.models.vision_transformer import VisionTransformer
from torch import Tensor, nn

from moca.backbone import PlainViT, vit_dimensions

# A ViT that runs in a millisecond; the checkpoint and Runner tests need no more.
TINY: dict[str, Any] = dict(patch_size=8, embed_dim=32, depth=3, num_heads=2, img_size=32)


def randomize(model: nn.Module, seed: int = 0) -> None:
    """Give every parameter a value of its own, none of which hides it (as a bias of 0 would).

    LayerScale gets values around 0.5: at its initial 1e-5 the blocks would hardly matter.
    """
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape, generator=generator)
            if name.endswith('gamma'):
                parameter.copy_(0.5 + 0.1 * noise)
            elif parameter.ndim == 1:
                parameter.copy_(0.1 * noise + ('norm' in name and name.endswith('weight')))
            elif 'pos_embed' in name or 'token' in name:
                parameter.copy_(0.5 * noise)
            else:
                parameter.copy_(noise / parameter[0].numel() ** 0.5)


def timm_vit(arch: str | dict[str, Any], seed: int = 0, **overrides: Any) -> VisionTransformer:
    """timm's own model, randomized, in eval mode."""
    settings = dict(num_classes=0, dynamic_img_size=True, **overrides)
    if isinstance(arch, str):
        model = timm.create_model(arch, **settings)
    else:
        model = VisionTransformer(**{**arch, **settings})
    randomize(model, seed)
    return model.eval()


def random_images(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def as_map(tokens: Tensor, grid: tuple[int, int], prefix: int) -> Tensor:
    """Reshape `[B, P + N, C]` to `[B, C, rows, columns]`, leaving out the prefix tokens."""
    return tokens[:, prefix:].unflatten(1, grid).permute(0, 3, 1, 2)


def make_pair(
    arch: Any, theirs: Any, overrides: dict[str, Any], side: int, **options: Any
) -> tuple[PlainViT, VisionTransformer]:
    """Return ours and timm's with the same weights, positions built for `side` x `side` patches."""
    size = side * vit_dimensions(arch).patch_size
    if isinstance(arch, dict):
        arch = {**arch, 'img_size': size}
    reference = timm_vit(theirs, img_size=size, **overrides)
    # timm's way with positions of other grids
    model = PlainViT(arch, img_size=size, **{'interpolation': 'bicubic-antialias', **options})
    model.load_state_dict(reference.state_dict())  # the same key names, all of them
    return model.eval(), reference


def make_tiny(**options: Any) -> tuple[PlainViT, VisionTransformer]:
    return make_pair(TINY, TINY, {}, 4, **options)


def save(content: Any, path: Path) -> Path:
    torch.save(content, path)
    return path


def assert_same_model(model: PlainViT, reference: VisionTransformer) -> None:
    images = random_images(2, 3, 32, 32)
    model.eval()
    with torch.no_grad():
        (ours,) = model(images)
        expected = reference.forward_features(images)
    torch.testing.assert_close(
        ours, as_map(expected, (4, 4), reference.num_prefix_tokens), rtol=1e-4, atol=1e-5
    )
