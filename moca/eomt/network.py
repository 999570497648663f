"""The network: a plain ViT with queries in its last blocks, and masked attention among them."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from timm.layers import LayerNorm2d
from torch import Tensor, nn

from moca.backbone import PlainViT
from moca.backbone.blocks import run_blocks
from moca.backbone.rope import with_unrotated
from moca.checkpoints.loading import load_checkpoint
from moca.checkpoints.reading import read_file
from moca.eomt.published import load_heads
from moca.errors import UserError


class Predictions(NamedTuple):
    """What the queries say, before each block that sees them and after the last one.

    Attributes:
        masks: Logits ``[B, Q, h, w]`` of each prediction.
        classes: Logits ``[B, Q, num_classes + 1]`` of each; the last class is "no object".
    """

    masks: list[Tensor]
    classes: list[Tensor]


class Upscale(nn.Sequential):
    """One doubling of the patch map: transposed convolution, GELU, depthwise 3 x 3, norm."""

    def __init__(self, dims: int) -> None:
        super().__init__()
        self.conv1 = nn.ConvTranspose2d(dims, dims, kernel_size=2, stride=2)
        self.act = nn.GELU()
        self.conv2 = nn.Conv2d(dims, dims, kernel_size=3, padding=1, groups=dims, bias=False)
        self.norm = LayerNorm2d(dims)


class MaskTransformer(nn.Module):
    """Encoder-only mask transformer on a `PlainViT`.

    The last `num_blocks` blocks see the tokens [queries | class and register tokens | patches].
    Before each of them, and after the last one, the backbone's final norm, two heads and the
    upscaled patches make masks and classes of the queries. A query then looks only at the patches
    of its mask (logit above 0), with the block's probability in `attn_mask_probs`; everything
    else sees everything.

    Names of parts are those of the published weights, less their ``network.``.

    Args:
        backbone: Without windows. Its final norm is used here; ``out_indices`` are not.
        num_classes: Without "no object".
        num_queries: 100 for semantic, 200 for panoptic and instance segmentation (section 3).
        num_blocks: That see queries: 3 for ViT-S and B, 4 for L, 5 for g and larger.

    Raises:
        UserError: The backbone has windows, or fewer blocks than `num_blocks`.
    """

    attn_mask_probs: Tensor

    def __init__(
        self, backbone: PlainViT, num_classes: int, num_queries: int = 100, num_blocks: int = 4
    ) -> None:
        super().__init__()
        if backbone.window_size is not None:
            raise UserError(
                'backbone.window_size: queries attend to the whole image; leave windows out.'
            )
        if not 1 <= num_blocks <= backbone.num_layers:
            raise UserError(
                f'num_blocks={num_blocks}: the backbone has {backbone.num_layers} blocks.'
            )
        self.backbone, self.num_blocks, self.num_queries = backbone, num_blocks, num_queries
        dims = backbone.embed_dims
        self.q = nn.Embedding(num_queries, dims)
        self.class_head = nn.Linear(dims, num_classes + 1)
        first, second, third = (nn.Linear(dims, dims) for _ in range(3))
        self.mask_head = nn.Sequential(first, nn.GELU(), second, nn.GELU(), third)
        steps = max(1, int(math.log2(backbone.patch_size)) - 2)  # to a quarter, a 7th of 14 pixels
        self.upscale = nn.Sequential(*(Upscale(dims) for _ in range(steps)))
        self.register_buffer('attn_mask_probs', torch.ones(num_blocks))
        self._probs = [1.0] * num_blocks  # read without waiting for a device
        # None: masks in training and wherever they still act
        self.masked_attn_enabled: bool | None = None
        backbone.norm.requires_grad_(not backbone.frozen)
        backbone.blocks.requires_grad_(not backbone.frozen)

    def init_weights(self, head_from: str | None = None) -> None:
        """Load the backbone's checkpoint; queries and heads keep torch's own random start.

        If the checkpoint is of a mask transformer, theirs are taken as well, as far as they fit.
        It is read once.

        Args:
            head_from: A file whose queries and heads are taken all, or refused.
        """
        options, content = dict(self.backbone.init_cfg or {}), None
        kind, path = options.pop('type', None), options.pop('checkpoint', None)
        if kind == 'ViTCheckpoint':
            content = read_file(path, bool(options.get('trust')))
            self.backbone.reset_parameters()
            load_checkpoint(self.backbone, path, content=content, **options)
            self.backbone._is_init = True
        else:
            self.backbone.init_weights()
        if head_from is not None:
            load_heads(self, head_from, content=content if head_from == path else None)
        elif content is not None:
            load_heads(self, path, partly=True, content=content)

    def _load_from_state_dict(self, *args: Any, **kwargs: Any) -> None:
        super()._load_from_state_dict(*args, **kwargs)
        self._probs = self.attn_mask_probs.tolist()

    def set_mask_probs(self, probs: list[float]) -> None:
        """Set how likely a query keeps to its mask, for each of the blocks that see queries."""
        if len(probs) != self.num_blocks:
            raise UserError(f'{len(probs)} probabilities for {self.num_blocks} blocks.')
        self._probs = [float(p) for p in probs]
        self.attn_mask_probs.copy_(torch.tensor(self._probs))

    def forward(self, images: Tensor) -> Predictions:
        """Predict.

        Args:
            images: ``[B, 3, H, W]``, normalized; any size.

        Returns:
            ``num_blocks + 1`` predictions, of ``2 ** steps`` times the grid's rows and columns; the
            last one alone where no mask is needed: in eval mode once all probabilities are 0.
        """
        x, grid, table = self.backbone.start(images)
        backbone, first = self.backbone, self.backbone.num_layers - self.num_blocks
        for out in run_blocks(backbone.blocks[:first], x, backbone.grad_checkpoint, table):
            x = out
        queries = self.q.weight.expand(x.shape[0], -1, -1).to(x.dtype)
        x = torch.cat([queries, x], dim=1)
        if table is not None:
            table = with_unrotated(table, self.num_queries)
        masked = self._masked()
        found = Predictions([], [])
        for number, block in enumerate(backbone.blocks[first:]):
            mask = None
            if masked:
                self._predict(x, grid, found)
                mask = self.attention_mask(found.masks[-1], grid, self._probs[number])
            (x,) = run_blocks([block], x, backbone.grad_checkpoint, table, mask)
        self._predict(x, grid, found)
        return found

    def _masked(self) -> bool:
        if self.masked_attn_enabled is not None:
            return self.masked_attn_enabled
        return self.training or any(self._probs)

    def _predict(self, x: Tensor, grid: tuple[int, int], found: Predictions) -> None:
        x = self.backbone.norm(x)
        queries = x[:, : self.num_queries]
        patches = x[:, self.num_queries + self.backbone.num_prefix_tokens :]
        maps = self.upscale(patches.transpose(1, 2).unflatten(2, grid))
        found.masks.append(torch.einsum('bqc,bchw->bqhw', self.mask_head(queries), maps))
        found.classes.append(self.class_head(queries))

    @torch.no_grad()
    def attention_mask(self, masks: Tensor, grid: tuple[int, int], prob: float) -> Tensor:
        """Which token may look at which: ``[B, 1, N, N]``, True where it may; row: who looks.

        Args:
            masks: Logits ``[B, Q, h, w]``.
            grid: Rows and columns of patches.
            prob: A query keeps to its mask with this probability, else it sees every patch.
        """
        batch, count = masks.shape[:2]
        inside = F.interpolate(masks.float(), grid, mode='bilinear') > 0
        if prob < 1:
            free = torch.rand(batch, count, device=masks.device) > prob
            inside |= free[..., None, None]
        number = count + self.backbone.num_prefix_tokens + grid[0] * grid[1]
        mask = torch.ones(batch, 1, number, number, dtype=torch.bool, device=masks.device)
        mask[:, 0, :count, -grid[0] * grid[1] :] = inside.flatten(2)
        return mask
