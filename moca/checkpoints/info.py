"""What a checkpoint holds, in the words of logs and errors."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from moca.backbone.arch import ArchSpec
from moca.backbone.windows import REL_POS
from moca.checkpoints.architecture import block_numbers
from moca.checkpoints.containers import odd_container
from moca.checkpoints.encoder import Encoder, built_arch, interpolation_of
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD


@dataclass(frozen=True)
class CheckpointInfo:
    """What a checkpoint file holds.

    Attributes:
        path: The file.
        family: MOCA, MAE, DINO, ..., or plain ViT where nothing tells them apart.
        branch: The encoder looked at.
        branches: All encoders in the file.
        embed_dim: Width.
        depth: Number of blocks.
        patch_size: Pixels, after resampling.
        num_positions: Rows of the position embedding.
        grid: Rows and columns of patches that they are for, where that is no square.
        num_registers: Register tokens.
        class_token: Whether there is a class token.
        positions: What kind of positions, in words.
        gated: Whether the MLPs are gated (SwiGLU).
        layer_scale: Whether the blocks have LayerScale.
        num_parameters: Scalars of the trunk.
        ignored: Keys beside the trunk that loading leaves out.
        interpolation: How the family resamples its positions; see
            :func:`moca.checkpoints.encoder.interpolation_of`.
        mean, std: What the encoder's inputs are normalized with, RGB, of pixels from 0 to 1.
        normalized_by: Who says so: the file, its family, or nobody (ImageNet's are taken then).
        norm_eps: Of its LayerNorms, None if nothing tells.
        refusal: Why it cannot be loaded, None if it can.
        container: What kind of file it is, where its name says another.
        notes: Where an exported file came from; see :func:`moca.checkpoints.export.export_notes`.
        arch: The architecture: of the run that wrote the file, else from names and shapes; None if
            nothing tells the number of heads.
        arch_from_run: Whether the run that wrote the file says so.
        fitting: Names of architectures that the tensors fit; see
            :func:`moca.checkpoints.encoder.fitting_archs`. Known from `inspect_checkpoint` alone.
        file_patch: Pixels of a patch in the file, where that was asked.
    """

    path: str
    family: str
    branch: str
    branches: tuple[str, ...]
    embed_dim: int
    depth: int
    patch_size: int
    num_positions: int
    num_registers: int
    layer_scale: bool
    num_parameters: int
    ignored: tuple[str, ...]
    interpolation: str = 'bicubic'
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD
    normalized_by: str | None = None
    norm_eps: float | None = None
    refusal: str | None = None
    container: str = ''
    notes: Mapping[str, str] = field(default_factory=dict)
    arch: ArchSpec | None = None
    arch_from_run: bool = False
    fitting: tuple[str, ...] = ()
    file_patch: int | None = None
    class_token: bool = True
    positions: str = ''
    gated: bool = False
    grid: tuple[int, int] | None = None

    @property
    def tokens(self) -> str:
        """What an image becomes, in words."""
        parts = ['a class token'] * self.class_token
        parts += [f'{self.num_registers} registers'] * bool(self.num_registers)
        return ', '.join([*parts, 'patches'])

    @property
    def resampled_from(self) -> int | None:
        """The size of the file's patches where they were resampled to another, else None."""
        return None if self.file_patch in (None, self.patch_size) else self.file_patch

    def __str__(self) -> str:
        extras = [f'{self.num_registers} registers'] * bool(self.num_registers)
        extras += ['LayerScale'] * self.layer_scale
        own = f' (resampled from {self.resampled_from})' if self.resampled_from else ''
        return (
            f'{self.family} ({self.branch}): width {self.embed_dim}, {self.depth} blocks, '
            f'patch {self.patch_size}{own}, {self.num_positions} positions'
            + ''.join(f', {extra}' for extra in extras)
            + (f' ({self.container})' if self.container else '')
        )


def normalization_text(info: CheckpointInfo) -> str:
    """Mean, deviation and eps, and who says so."""
    mean, std = (' '.join(f'{value:.3f}' for value in part) for part in (info.mean, info.std))
    eps = '' if info.norm_eps is None else f', eps {info.norm_eps:g}'
    return f'mean {mean}, std {std}{eps} ({info.normalized_by or "nobody says; ImageNet assumed"})'


def describe(path: str | Path, encoder: Encoder) -> CheckpointInfo:
    """Describe an encoder found in the file ``path``."""
    state = encoder.state
    blocks = block_numbers(state)
    kernel = state['patch_embed.proj.weight']
    registers = state.get('reg_token')
    mean, std = encoder.statistics or (IMAGENET_MEAN, IMAGENET_STD)
    return CheckpointInfo(
        path=str(path),
        family=encoder.family,
        branch=encoder.branch,
        branches=encoder.branches,
        embed_dim=kernel.shape[0],
        depth=len(blocks),
        patch_size=kernel.shape[-1],
        num_positions=state['pos_embed'].shape[1] if 'pos_embed' in state else 0,
        num_registers=0 if registers is None else registers.shape[1],
        layer_scale='blocks.0.ls1.gamma' in state,
        num_parameters=sum(value.numel() for value in state.values()),
        ignored=encoder.ignored,
        interpolation=interpolation_of(encoder, path),
        mean=mean,
        std=std,
        normalized_by=encoder.normalized_by,
        norm_eps=encoder.built.get('norm_eps'),
        refusal=encoder.refusal,
        container=odd_container(path),
        notes=encoder.notes,
        arch=built_arch(encoder),
        arch_from_run=encoder.arch is not None,
        class_token='cls_token' in state,
        positions=_positions(encoder),
        gated=any(key.startswith('blocks.0.mlp.fc1_g.') for key in state)
        or encoder.built.get('mlp') == 'swiglu-packed',
        grid=encoder.grid,
    )


def _positions(encoder: Encoder) -> str:
    """Learned positions with their grid where it is square, rotary ones with their kind."""
    state, built = encoder.state, encoder.built
    found = []
    if 'pos_embed' in state:
        rows, side = state['pos_embed'].shape[1], built.get('img_size')
        side = side // built['patch_size'] if isinstance(side, int) else None
        high, wide = encoder.grid or (side, side)
        grid = '' if high is None else f', for {high} x {wide} patches'
        found.append(f'{rows} rows{grid}')
    rope = built.get('rope')
    if rope is not None:
        base = f', base {rope["base"]:g}' if rope.get('base') else ''
        found.append(f'rotary ({rope.get("kind", "dinov3")}{base})')
    if any(key.endswith(REL_POS) for key in state):
        found.append('relative ones of windows')
    return ' and '.join(found) or 'none'
