"""Architectures: from a timm name or a dict of dimensions to a timm ``VisionTransformer``."""

from __future__ import annotations

import difflib
import inspect
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, partial
from typing import Any

import timm
import torch
from timm.layers import (
    LayerNorm,
    PatchEmbed,
    RmsNorm,
    RotaryEmbeddingDinoV3,
    SwiGLU,
    SwiGLUPacked,
)
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from moca.errors import UserError

# Arguments of a dict beside those of timm's `VisionTransformer`; see `build_vit`.
_OWN = (
    *('norm', 'norm_eps', 'final_affine', 'mlp', 'mlp_hidden', 'mlp_bias', 'patch_bias'),
    *('patch_norm', 'rope'),
)
_NORMS = {'layer': LayerNorm, 'rms': RmsNorm}

ArchSpec = str | Mapping[str, Any]

# Head-less and un-pooled: the dense tasks want the tokens. An empty `global_pool` also makes
# timm keep the final norm on the tokens for architectures that would norm the pooled vector.
_TOKENS_ONLY: dict[str, Any] = dict(num_classes=0, global_pool='', dynamic_img_size=True)


# Patches, in pixels, of names that timm does not list [our choice]: those of published ViTs, and 2
# and 4 for images of 32 and 64 pixels. Any other can be given as a dict of dimensions.
_PATCHES = (2, 4, 8, 14, 16, 32)


# Behind a name, before another number of heads than timm's.
_HEADS = '_heads'


@dataclass(frozen=True)
class ViTDimensions:
    """The widths that heads, necks and decoders derive their own from."""

    embed_dim: int
    depth: int
    num_heads: int
    patch_size: int
    img_size: tuple[int, int]


# By the architecture's text; see `vit_dimensions`.
_DIMENSIONS: dict[str, ViTDimensions] = {}


def build_vit(arch: ArchSpec, **overrides: Any) -> VisionTransformer:
    """Build a timm ViT without classification head.

    Args:
        arch: A timm model name, whose size suffix may be omitted (``vit_base_patch16`` is
            ``vit_base_patch16_224``) and whose patch size may be one of 2, 4, 8, 14, 16 and 32
            that timm does not list (``vit_tiny_patch8``); ``_headsN`` behind it changes the number
            of heads (``vit_small_patch16_heads12`` is MoCo-v3's ViT-S); or a dict of
            ``timm.models.VisionTransformer`` arguments, such as
            ``dict(patch_size=8, embed_dim=192, depth=12, num_heads=3)``, and of ours: ``norm``
            ('layer' or 'rms') and ``norm_eps``; ``final_affine``, False for a final norm without
            weights; ``mlp`` ('mlp' or 'swiglu') with ``mlp_hidden`` and
            ``mlp_bias``; ``patch_bias``; ``rope``, the arguments of
            :class:`moca.backbone.rope.RotaryPositions`.
        overrides: Further arguments of ``VisionTransformer``.

    Raises:
        UserError: The name or a dimension is unknown, or the model is no plain ViT.
    """
    arch = _resolved(arch) if isinstance(arch, str) else arch
    if isinstance(arch, str):
        name, own = timm_arguments(arch)
        try:
            model = timm.create_model(name, pretrained=False, **_TOKENS_ONLY, **own, **overrides)
        except (AssertionError, TypeError) as error:  # arguments that only a plain ViT takes
            raise _not_plain(arch, str(error)) from error
        if not isinstance(model, VisionTransformer):
            raise _not_plain(arch, type(model).__name__)
        if not isinstance(model.patch_embed, PatchEmbed):
            raise _not_plain(arch, f'its patches come from a {type(model.patch_embed).__name__}')
        if not hasattr(model.blocks[0], 'attn'):
            raise _not_plain(arch, f'its blocks are {type(model.blocks[0]).__name__}')
        return model
    known = [*inspect.signature(VisionTransformer).parameters, *_OWN]
    for key in arch:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f' Did you mean {near[0]!r}?' if near else ''
            raise UserError(f'arch: {key!r} is no argument of timm VisionTransformer.{hint}')
    vit = VisionTransformer(**{**_with_layers(arch), **_TOKENS_ONLY, **overrides})
    if not arch.get('final_affine', True):
        norm = RmsNorm if arch.get('norm') == 'rms' else LayerNorm
        vit.norm = norm(vit.embed_dim, eps=arch.get('norm_eps', 1e-6), affine=False)
    return vit


def _with_layers(arch: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments of timm's class: what plain data cannot say becomes a layer."""
    settings = {key: value for key, value in arch.items() if key not in _OWN}
    kind, eps = arch.get('norm', 'layer'), arch.get('norm_eps', 1e-6)
    if kind not in _NORMS:
        raise UserError(f'arch.norm={kind!r}: choose {" or ".join(_NORMS)}.')
    if 'norm' in arch or 'norm_eps' in arch:
        settings['norm_layer'] = partial(_NORMS[kind], eps=eps)
    if str(arch.get('mlp')).startswith('swiglu'):
        hidden = arch.get('mlp_hidden') or round(arch['embed_dim'] * arch.get('mlp_ratio', 4.0))
    if arch.get('mlp') == 'swiglu':
        bias = bool(arch.get('mlp_bias', True))
        settings.update(
            mlp_layer=partial(SwiGLU, bias=bias),
            mlp_ratio=hidden / arch['embed_dim'],
            act_layer=nn.SiLU,
        )
    elif arch.get('mlp') == 'swiglu-packed':  # DINOv2's giant: both halves in one layer
        settings.update(
            mlp_layer=SwiGLUPacked,
            mlp_ratio=hidden / arch['embed_dim'],
            act_layer=nn.SiLU,
        )
    elif arch.get('mlp', 'mlp') != 'mlp':
        raise UserError(f'arch.mlp={arch["mlp"]!r}: choose mlp, swiglu or swiglu-packed.')
    if 'patch_bias' in arch:
        settings['embed_layer'] = partial(_Patches, with_bias=bool(arch['patch_bias']))
    if arch.get('patch_norm'):
        settings['embed_norm_layer'] = settings['norm_layer']
    rope = arch.get('rope')
    if rope is not None and rope.get('kind', 'dinov3') != 'interleaved':
        settings.setdefault('pos_embed', 'none')
        settings.setdefault('no_embed_class', True)
    return settings


class _Patches(PatchEmbed):
    """timm's, with a bias or without, whatever else the model has."""

    def __init__(self, *args: Any, with_bias: bool = True, **kwargs: Any) -> None:
        super().__init__(*args, **{**kwargs, 'bias': with_bias})


@cache
def _resolved(name: str) -> ArchSpec:
    """A dict in the place of timm's name of a ViT with DINOv3's rotary positions; else the name.

    timm builds those (DINOv3, EUPE, LingBot-Vision) by another class, `Eva`, whose weights have
    other names.
    """
    if not timm.is_model(name):
        return name
    entry = timm.model_entrypoint(name)
    if not entry.__module__.endswith('.eva'):
        return name
    with torch.device('meta'):
        eva: Any = timm.create_model(name)
    block, rope = eva.blocks[0], eva.rope
    if not isinstance(rope, RotaryEmbeddingDinoV3) or not hasattr(block.attn, 'q_bias'):
        return name  # as Sapiens2, whose queries share keys
    arch: dict[str, Any] = dict(
        patch_size=eva.patch_embed.patch_size[0],
        img_size=eva.patch_embed.img_size[0],
        embed_dim=eva.embed_dim,
        depth=len(eva.blocks),
        num_heads=block.attn.num_heads,
        # keys have no bias, which changes nothing: it is there, and zero, for queries and values
        qkv_bias=block.attn.q_bias is not None,
        reg_tokens=eva.num_prefix_tokens - 1,
        norm_eps=block.norm1.eps,
        init_values=1e-5,  # timm's of these models
        rope=dict(base=float(rope.temperature)),
    )
    if isinstance(block.mlp, SwiGLU):
        hidden = block.mlp.fc1_g.out_features
        arch |= dict(mlp='swiglu', mlp_hidden=hidden)
    else:
        arch['mlp_ratio'] = block.mlp.fc1.out_features / eva.embed_dim
    return arch


def rope_of(arch: ArchSpec) -> dict[str, Any] | None:
    """The arguments of rotary positions that an architecture has, None without them."""
    arch = _resolved(arch) if isinstance(arch, str) else arch
    given = None if isinstance(arch, str) else arch.get('rope')
    return None if given is None else dict(given)


def vit_dimensions(arch: ArchSpec) -> ViTDimensions:
    """Read an architecture's widths without allocating its weights.

    Each architecture is built once in a process: even without weights that takes .2 s, and the
    checks before a run ask ten times.
    """
    key = repr(arch)
    if key not in _DIMENSIONS:
        with torch.device('meta'):
            vit = build_vit(arch, weight_init='skip')  # timm would draw what has no memory
        _DIMENSIONS[key] = ViTDimensions(
            embed_dim=vit.embed_dim,
            depth=len(vit.blocks),
            num_heads=vit.blocks[0].attn.num_heads,
            patch_size=vit.patch_embed.patch_size[0],
            img_size=vit.patch_embed.img_size,
        )
    return _DIMENSIONS[key]


def _not_plain(arch: str, reason: str) -> UserError:
    return UserError(
        f'arch={arch!r}: timm has it, but it is not a plain ViT ({reason}). '
        'Choose a vit_*, deit_* or dinov2 name, or give the dimensions as a dict.'
    )


def _is_plain(name: str) -> bool:
    try:
        vit_dimensions(name)
    except UserError:
        return False
    return True


def _number_of_heads(arch: str, name: str, heads: str) -> int:
    width = vit_dimensions(name).embed_dim
    if not heads.isdecimal() or int(heads) < 1 or width % int(heads):
        raise UserError(f'arch={arch!r}: {_HEADS}N takes a number that divides its width, {width}.')
    return int(heads)


def timm_arguments(arch: str) -> tuple[str, dict[str, int]]:
    """The name by which timm makes an architecture, and what it has to be given beside it.

    Raises:
        UserError: There is none, with names that are near it.
    """
    short, other, heads = arch.partition(_HEADS)
    name, patch = _timm_name(short)
    own = {'patch_size': patch} if patch else {}
    return name, {**own, 'num_heads': _number_of_heads(arch, name, heads)} if other else own


_OTHER_PATCH = re.compile(r'(vit_[a-z0-9]+)_patch(\d+)')


def _found_name(arch: str) -> tuple[str, int | None] | None:
    for name in (arch, f'{arch}_224'):
        if timm.is_model(name):
            return name, None
    match = _OTHER_PATCH.fullmatch(arch)
    name = f'{match[1]}_patch16_224' if match else ''
    if match and timm.is_model(name) and int(match[2]) in _PATCHES:
        return name, int(match[2])
    return None


def is_arch(name: str) -> bool:
    """Whether an architecture of that name can be made, without the search for names near it."""
    return _found_name(name.partition(_HEADS)[0]) is not None


def _timm_name(arch: str) -> tuple[str, int | None]:
    """Resolve a possibly shortened name; returns (timm name, patch size to override)."""
    found = _found_name(arch)
    if found is not None:
        return found
    match = _OTHER_PATCH.fullmatch(arch)
    if match and timm.is_model(f'{match[1]}_patch16_224'):
        raise UserError(
            f'arch={arch!r}: patches of {match[2]} pixels; {match[1]}_patchN takes N of '
            f'{", ".join(map(str, _PATCHES))}. For others give the dimensions as a dict, with '
            f'arch.patch_size={match[2]}.'
        )
    close = difflib.get_close_matches(arch, timm.list_models(['vit_*', 'deit*']), n=9, cutoff=0.5)
    near = [name for name in close if _is_plain(name)][:3]
    raise UserError(
        f'arch={arch!r} is no timm ViT. '
        + (f'Near names: {", ".join(near)}. ' if near else '')
        + 'Or give the dimensions: arch.patch_size=8 arch.embed_dim=192 arch.depth=12 ...'
    )
