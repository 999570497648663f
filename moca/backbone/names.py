"""What a checkpoint's trunk is called: its keys under timm's names, its architecture's name."""

from __future__ import annotations

import math
from types import SimpleNamespace

import torch
from timm.models.vision_transformer import VisionTransformer, checkpoint_filter_fn

from moca.backbone.arch import build_vit, vit_dimensions
from moca.backbone.files import Encoder, StateDict
from moca.backbone.windows import REL_POS
from moca.errors import UserError

# What timm calls the plain ViTs of published checkpoints, by width.
_SIZES = {
    **{192: 'tiny', 384: 'small', 768: 'base', 1024: 'large', 1280: 'huge'},
    **{1408: 'giant', 1536: 'giant'},  # timm's own and DINOv2's
}
# Some sizes and patches do not go with some of these: no names, and passed over.
_FORMS = (
    'vit_{size}_patch{patch}',
    'vit_{size}_patch{patch}_dinov2',
    'vit_{size}_patch{patch}_reg4_dinov2',
    'deit3_{size}_patch{patch}',
)
# A file's shapes do not tell the number of heads. All known families have timm's number but for
# MoCo-v3, whose ViT-S has 12 of 32 channels (its released code).
_OTHER_HEADS = {('MoCo-v3', 384): 12}


def timm_names(encoder: Encoder) -> StateDict:
    """The trunk under timm's names, whatever the family called them."""
    # timm's filter renames DINOv2's. It would resample to the model's grid as well; a model
    # without positions keeps it from that (positions are resampled in fit_state).
    state = dict(encoder.state)
    kernel = state['patch_embed.proj.weight']
    if kernel.ndim == 2:  # a linear layer on flattened patches, in old timm files
        patch = math.isqrt(kernel.shape[1] // 3)
        kernel = state['patch_embed.proj.weight'] = kernel.reshape(-1, 3, patch, patch)
    if 'register_tokens' in state or any('.mlp.w12.' in key for key in state):
        state.setdefault('mask_token', torch.empty(0))  # what timm tells DINOv2 by
    shape = SimpleNamespace(
        pos_embed=None, patch_embed=SimpleNamespace(proj=SimpleNamespace(weight=kernel))
    )
    state = checkpoint_filter_fn(state, shape)
    if 'norm.weight' not in state:
        # a classifier that norms the pooled vector: the same norm, applied to each token
        state = {key.replace('fc_norm.', 'norm.', 1): value for key, value in state.items()}
    return {key: value for key, value in state.items() if not key.startswith('fc_norm.')}


def known_heads(encoder: Encoder) -> int | None:
    """The number of heads, where the file's run or its family tells it; else None."""
    width = encoder.state['patch_embed.proj.weight'].shape[0]
    if encoder.arch is not None:
        said = vit_dimensions(encoder.arch)
        return said.num_heads if said.embed_dim == width else None
    return _OTHER_HEADS.get((encoder.notes.get('family', encoder.family), width))


def fitting_archs(encoder: Encoder) -> list[str]:
    """Names of architectures that an encoder's tensors fit, for ``--arch``; may be none."""
    state = timm_names(encoder)
    shapes = {k: v.shape for k, v in state.items() if k != 'pos_embed' and not k.endswith(REL_POS)}
    width, _, _, patch = state['patch_embed.proj.weight'].shape
    heads = known_heads(encoder)
    found = []
    for form in _FORMS if width in _SIZES else ():
        name = form.format(size=_SIZES[width], patch=patch)
        model = _on_paper(name)
        if model is None:
            continue
        theirs = {k: v.shape for k, v in model.state_dict().items() if k != 'pos_embed'}
        if theirs == shapes:
            other = heads is not None and heads != model.blocks[0].attn.num_heads
            found.append(f'{name}_heads{heads}' if other else name)
    return found


def _on_paper(name: str) -> VisionTransformer | None:
    try:
        with torch.device('meta'):
            return build_vit(name)
    except UserError:
        return None
