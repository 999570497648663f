"""The plain ViT that every pre-training method trains and every downstream task consumes."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule, initialize
from mmengine.registry import MODELS
from timm.layers import RmsNorm
from torch import Tensor, nn

from moca.backbone.arch import ArchSpec, build_vit, rope_of, vit_dimensions
from moca.backbone.blocks import run_blocks
from moca.backbone.patches import Pixels, embed_pixels, unfold
from moca.backbone.positions import (
    check_interpolation,
    resample_positions,
    sincos_positions,
)
from moca.backbone.rope import RopeAttention, RotaryPositions
from moca.backbone.windows import REL_POS, set_windows
from moca.errors import UserError
from moca.images.transforms import IMAGENET_MEAN, IMAGENET_STD


class Tokens(NamedTuple):
    """What the encoder makes of an image.

    Attributes:
        prefix: Class and register tokens after the final norm, ``[B, P, C]``.
        patches: Patch tokens after the final norm, ``[B, N, C]``.
        intermediate: Patch tokens of the blocks asked for, *without* the final norm.
        intermediate_prefix: Class and register tokens of the same blocks, likewise.
    """

    prefix: Tensor
    patches: Tensor
    intermediate: tuple[Tensor, ...]
    intermediate_prefix: tuple[Tensor, ...]


@MODELS.register_module()
class PlainViT(BaseModule):
    """A timm ViT under timm's key names, for pre-training and for dense tasks.

    Args:
        arch: A timm name (``vit_base_patch16``, ``vit_small_patch14_dinov2``) or a dict of timm
            ``VisionTransformer`` dimensions; see :func:`moca.backbone.arch.build_vit`.
        img_size: Size in pixels (height and width, or one for both) for which the position
            embedding is built. Other sizes work: padded to whole patches, positions resampled.
        out_indices: Blocks whose tokens :meth:`forward` returns as maps; negative counts from
            the end.
        final_norm: Apply the final LayerNorm to every returned map.
        frozen: No gradients, no activations kept, always in eval mode (so no drop-path).
        drop_path_rate: Stochastic depth rate of the last block, growing linearly from 0.
        grad_checkpoint: Recompute each block's activations in the backward pass.
        train_pos_embed: Train the position embedding; MOCA and MAE keep it fixed.
        interpolation: How positions are resampled, one of
            :data:`moca.backbone.positions.INTERPOLATIONS`; None as the checkpoint's family does it,
            ``bicubic`` without a checkpoint.
        norm_eps: Of every norm, where it is not the architecture's; checkpoints set it.
        window_size: Side of attention windows in patches, as in ViTDet; class and register tokens
            then take no part. None attends over the whole image in every block.
        global_blocks: Blocks without windows; negative counts from the end.
        rel_pos: Relative positions in every block of a ViT with windows; zero until trained.
        init_cfg: ``dict(type='ViTCheckpoint', checkpoint=..., branch=...)``.
    """

    def __init__(
        self,
        arch: ArchSpec = 'vit_base_patch16',
        *,
        img_size: int | Sequence[int] | None = None,
        out_indices: Sequence[int] = (-1,),
        final_norm: bool = True,
        frozen: bool = False,
        drop_path_rate: float = 0.0,
        grad_checkpoint: bool = False,
        train_pos_embed: bool = True,
        interpolation: str | None = None,
        norm_eps: float | None = None,
        window_size: int | None = None,
        global_blocks: Sequence[int] = (),
        rel_pos: bool = False,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(init_cfg)
        check_interpolation(interpolation)
        size: dict[str, Any] = {}
        if img_size is not None:
            # rounded up to whole patches: the positions must cover the padded image
            patch = vit_dimensions(arch).patch_size
            sides = (img_size, img_size) if isinstance(img_size, int) else img_size
            size['img_size'] = tuple(math.ceil(side / patch) * patch for side in sides)
        vit = build_vit(arch, drop_path_rate=drop_path_rate, **size)
        rope = rope_of(arch)
        self.patch_embed = vit.patch_embed
        self.cls_token = vit.cls_token
        self.reg_token = vit.reg_token
        self.pos_embed = vit.pos_embed
        self.norm_pre = vit.norm_pre
        self.blocks = vit.blocks
        self.norm = vit.norm

        self.embed_dims: int = vit.embed_dim
        self.patch_size: int = vit.patch_embed.patch_size[0]
        self.rope: RotaryPositions | None = None
        if norm_eps is not None:
            self.norm_eps = norm_eps
        if rope is not None:
            self.rope = RotaryPositions(vit.blocks[0].attn.head_dim, **rope)
            for block in vit.blocks:
                block.attn = RopeAttention.of(block.attn, self.rope.halves)
                if self.rope.kind == 'learned':
                    block.attn.add_frequencies()
        self.num_layers: int = len(vit.blocks)
        self.num_heads: int = vit.blocks[0].attn.num_heads
        self.num_prefix_tokens: int = vit.num_prefix_tokens
        self.no_embed_class: bool = vit.no_embed_class
        self.grid: tuple[int, int] = vit.patch_embed.grid_size
        self.interpolation = interpolation
        # what images are normalized with, RGB of 0 to 1; a checkpoint sets its own
        self.mean, self.std = IMAGENET_MEAN, IMAGENET_STD
        self.final_norm = final_norm
        self.grad_checkpoint = grad_checkpoint
        self.frozen = frozen
        self.out_indices = self._resolve(out_indices)
        self.window_size = window_size
        if window_size is not None:
            blocks = self._resolve(global_blocks, 'global_blocks') if global_blocks else ()
            set_windows(self.blocks, window_size, blocks, self.grid, rel_pos)
        elif global_blocks or rel_pos:
            raise UserError('global_blocks and rel_pos belong to windows: give window_size.')

        if self.pos_embed is not None:
            self.pos_embed.requires_grad_(train_pos_embed)
        # what no map depends on gets no gradient, which DDP would wait for
        if window_size is not None:
            for token in (self.cls_token, self.reg_token):
                if token is not None:
                    token.requires_grad_(False)
        self.blocks[max(self.out_indices) + 1 :].requires_grad_(False)
        self.norm.requires_grad_(final_norm)
        if frozen:
            self.requires_grad_(False)
            self.eval()

    @property
    def norm_eps(self) -> float:
        """The eps of the norms of all blocks; setting it changes every norm."""
        return float(self.blocks[0].norm1.eps)

    @norm_eps.setter
    def norm_eps(self, eps: float) -> None:
        for module in self.modules():
            if isinstance(module, nn.LayerNorm | RmsNorm):
                module.eps = eps

    # ------------------------------------------------------------------ weights

    def init_weights(self) -> None:
        """Initialize as MAE and MOCA do, then load the checkpoint of ``init_cfg``, if any.

        Never recurses into timm's own ``init_weights``, which would overwrite loaded weights.
        """
        if self._is_init:  # type: ignore[has-type]
            return
        self.reset_parameters()
        if self.init_cfg:
            if self.init_cfg.get('type') != 'ViTCheckpoint':
                raise UserError(
                    f'PlainViT: init_cfg.type={self.init_cfg.get("type")!r} would load what '
                    "happens to match and skip the rest. Use dict(type='ViTCheckpoint', "
                    'checkpoint=...).'
                )
            initialize(self, self.init_cfg)
        self._is_init = True

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Random initialization of MAE and MOCA.

        Linear layers Xavier-uniform with zero bias, LayerNorm 1/0, the patch embedding
        Xavier-uniform on its flattened kernel with the bias of torch's convolutions, prefix tokens
        N(0, .02), positions sine-cosine.
        LayerScale keeps timm's value.
        """
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm) and module.elementwise_affine:
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        kernel = self.patch_embed.proj.weight
        nn.init.xavier_uniform_(kernel.view(kernel.shape[0], -1))
        if self.patch_embed.proj.bias is not None:  # uniform, which neither source changes
            bound = kernel[0].numel() ** -0.5
            nn.init.uniform_(self.patch_embed.proj.bias, -bound, bound)
        for token in (self.cls_token, self.reg_token):
            if token is not None:
                nn.init.normal_(token, std=0.02)
        for name, parameter in self.named_parameters():
            if name.endswith(REL_POS):
                nn.init.zeros_(parameter)
        if self.rope is not None:
            self.rope.reset()
        if self.pos_embed is not None:
            prefix = 0 if self.no_embed_class else self.num_prefix_tokens
            self.pos_embed.copy_(sincos_positions(self.grid, self.embed_dims, prefix))

    def train(self, mode: bool = True) -> PlainViT:
        """Set training mode; a frozen backbone stays in eval mode."""
        return super().train(mode and not self.frozen)

    def get_layer_depth(self, name: str, prefix: str = '') -> tuple[int, int]:
        """Depth of a parameter for layer-wise learning-rate decay (the rule of BEiT and MAE).

        Args:
            name: Parameter name, such as ``backbone.blocks.3.attn.qkv.weight``.
            prefix: What to strip from it, such as ``backbone.``.

        Returns:
            The layer (stem 0, block i: i + 1, final norm: ``num_layers + 1``) and the number of
            layers, ``num_layers + 2``.
        """
        total = self.num_layers + 2
        stem, _, rest = name.removeprefix(prefix).partition('.')
        if stem in ('patch_embed', 'pos_embed', 'cls_token', 'reg_token', 'norm_pre'):
            return 0, total
        if stem == 'blocks':
            return int(rest.split('.')[0]) + 1, total
        return total - 1, total

    # ------------------------------------------------------------------ forward

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Maps of the chosen blocks.

        Args:
            images: ``[B, 3, H, W]``, normalized; any size.

        Returns:
            One map ``[B, C, ceil(H / patch), ceil(W / patch)]`` for each of ``out_indices``.
        """
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self.frozen):
            patches, grid = self._patches(images)
            if self.window_size is None:
                x, skip = self._with_prefix(patches), self.num_prefix_tokens
            else:
                x, skip = self.norm_pre(patches).unflatten(1, grid), 0
            table = self._table(grid, skip, device=x.device)
            if table is not None and self.window_size is not None:
                table = table.unflatten(0, grid)
            maps: dict[int, Tensor] = {}
            for index, out in enumerate(self._run(x, max(self.out_indices) + 1, table)):
                if index in self.out_indices:
                    out = (self.norm(out) if self.final_norm else out)[:, skip:]
                    out = out.flatten(1, -2).transpose(1, 2)
                    maps[index] = out.reshape(images.shape[0], self.embed_dims, *grid).contiguous()
        return tuple(maps[index] for index in self.out_indices)

    def start(self, images: Tensor) -> tuple[Tensor, tuple[int, int], Tensor | None]:
        """What the first block of a ViT without windows gets.

        Args:
            images: ``[B, 3, H, W]``, normalized; any size.

        Returns:
            Prefix and patch tokens ``[B, P + N, C]``, the grid's rows and columns, and the table of
            rotary positions, None without them.
        """
        patches, grid = self._patches(images)
        x = self._with_prefix(patches)
        return x, grid, self._table(grid, self.num_prefix_tokens, device=x.device)

    def unfold(self, *images: Tensor) -> Pixels:
        """Pixels of batches of images, for :meth:`tokens` of this network and others like it."""
        return unfold(self.patch_size, *images)

    def tokens(
        self, images: Tensor | Pixels, ids_keep: Tensor | None = None, layers: Sequence[int] = ()
    ) -> Tokens:
        """Tokens of (the visible patches of) images; only the visible ones are embedded.

        Args:
            images: ``[B, 3, H, W]``, normalized, or what :meth:`unfold` made of them.
            ids_keep: Visible patches, ``[B, N]`` indices row by row; all when None.
            layers: Blocks whose tokens to return as well, without the final norm.

        Raises:
            UserError: The blocks have windows.
        """
        if isinstance(images, Tensor):
            if ids_keep is None:
                patches, grid = self._patches(images)
                return self._encode(patches, grid, None, layers)
            images = self.unfold(images)
        values, positions = images.values, self._positions(images.grid)
        if ids_keep is not None:
            values = _take(values, ids_keep)
            positions = None if positions is None else positions[0, ids_keep]
        patches = embed_pixels(self.patch_embed, values)
        patches = patches if positions is None else patches + positions
        return self._encode(patches, images.grid, ids_keep, layers)

    # ------------------------------------------------------------------ parts

    def _encode(
        self,
        patches: Tensor,
        grid: tuple[int, int],
        ids_keep: Tensor | None,
        layers: Sequence[int],
    ) -> Tokens:
        if self.window_size is not None:
            raise UserError('window_size: tokens without a grid have no windows; leave it out.')
        indices = self._resolve(layers) if layers else ()
        skip = self.num_prefix_tokens
        x = self._with_prefix(patches)
        table = self._table(grid, skip, ids_keep, x.device)
        intermediate: dict[int, Tensor] = {}
        for index, out in enumerate(self._run(x, self.num_layers, table)):
            x = out
            if index in indices:
                intermediate[index] = out
        x = self.norm(x)
        asked = [intermediate[i] for i in indices]
        return Tokens(
            x[:, :skip],
            x[:, skip:],
            tuple(out[:, skip:] for out in asked),
            tuple(out[:, :skip] for out in asked),
        )

    def _run(self, x: Tensor, number: int, table: Tensor | None = None) -> Iterator[Tensor]:
        return run_blocks(self.blocks[:number], x, self.grad_checkpoint, table)

    def _table(
        self,
        grid: tuple[int, int],
        skip: int,
        ids_keep: Tensor | None = None,
        device: torch.device | None = None,
    ) -> Tensor | None:
        """Of rotary positions: ``[skip + N, 2 * head_dim]``, with a batch for its own patches."""
        if self.rope is None:
            return None
        table = self.rope(grid, device)
        if ids_keep is not None:
            table = table[ids_keep]
        return self.rope.with_prefix(table, skip)

    def _resolve(self, indices: Sequence[int], field: str = 'out_indices') -> tuple[int, ...]:
        resolved = tuple(i + self.num_layers if i < 0 else i for i in indices)
        for given, index in zip(indices, resolved, strict=True):
            if not 0 <= index < self.num_layers:
                raise UserError(
                    f'{field}: block {given} does not exist in a ViT of {self.num_layers}.'
                )
        if not resolved:
            raise UserError(f'{field} is empty: name at least one block.')
        return resolved

    def _patches(self, images: Tensor) -> tuple[Tensor, tuple[int, int]]:
        height, width = images.shape[-2:]
        grid = (math.ceil(height / self.patch_size), math.ceil(width / self.patch_size))
        right, bottom = grid[1] * self.patch_size - width, grid[0] * self.patch_size - height
        if right or bottom:
            images = F.pad(images, (0, right, 0, bottom))
        x = self.patch_embed.proj(images).flatten(2).transpose(1, 2)
        x = self.patch_embed.norm(x)
        positions = self._positions(grid)
        return (x if positions is None else x + positions), grid

    def _positions(self, grid: tuple[int, int]) -> Tensor | None:
        """Of the patches of a grid, ``[1, L, C]``; None for a ViT that has none to add."""
        if self.pos_embed is None:
            return None
        skip = 0 if self.no_embed_class else self.num_prefix_tokens
        how = self.interpolation or 'bicubic'
        return resample_positions(self.pos_embed[:, skip:], self.grid, grid, how)

    def _with_prefix(self, patches: Tensor) -> Tensor:
        prefix = [token for token in (self.cls_token, self.reg_token) if token is not None]
        if not prefix:
            return self.norm_pre(patches)
        tokens = torch.cat(prefix, dim=1)
        if self.pos_embed is not None and not self.no_embed_class:
            tokens = tokens + self.pos_embed[:, : self.num_prefix_tokens]
        tokens = tokens.expand(patches.shape[0], -1, -1).to(patches.dtype)
        return self.norm_pre(torch.cat([tokens, patches], dim=1))


def _take(tokens: Tensor, ids: Tensor) -> Tensor:
    """The tokens ``[B, N, C]`` that ``ids``, ``[B, N]``, name among ``[B, L, C]``."""
    return tokens.gather(1, ids[..., None].expand(-1, -1, tokens.shape[-1]))
