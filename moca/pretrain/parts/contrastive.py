"""Contrastive losses that see the batch of all processes, and what they need: heads and a bank."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from mmengine.dist import get_rank, get_world_size
from torch import Tensor, nn
from torch.distributed.nn import functional as differentiable

from moca.engine.amp import tf32_under_autocast
from moca.engine.config_check import check_arguments
from moca.engine.ranges import check_count
from moca.errors import UserError


def check_contrastive(images: int, part: tuple[int, int]) -> None:
    """Refuse a step whose images have none to be told apart from, or not all of them.

    Args:
        images: In a step, over all processes.
        part: Number of the part of the batch, and how many there are.

    Raises:
        UserError: There is one image only; or the batch comes in parts, each of which would be
            compared with itself alone, which is another loss than the recipe's.
    """
    if part[1] > 1:
        raise UserError(
            f'optim_wrapper.accumulative_counts={part[1]} (--accumulate): a contrastive loss and '
            'the batch norm of its projector compare all images of a step, which parts of the '
            'batch do not have at hand. Take the batch at once: more GPUs, '
            'model.backbone.grad_checkpoint=True, --amp, or a smaller train_dataloader.batch_size '
            '(the learning rate follows it).'
        )
    if images < 2:
        raise UserError(
            'train_dataloader.batch_size: a contrastive loss tells images of a batch apart, and '
            'this batch has one. Give at least 2.'
        )


def gather_with_gradient(rows: Tensor) -> Tensor:
    """Rows ``[B, D]`` of all processes, ``[W * B, D]``; gradients flow back to each process.

    A process that takes the mean loss over its own rows gets back the sum of all processes'
    gradients; averaged over processes, as DDP does, they are those of the whole batch.
    """
    if get_world_size() == 1:
        return rows
    return torch.cat(differentiable.all_gather(rows.contiguous()))


@torch.no_grad()
def gather(rows: Tensor) -> Tensor:
    """Rows ``[B, D]`` of all processes, ``[W * B, D]``, without gradient."""
    if get_world_size() == 1:
        return rows
    parts = [torch.empty_like(rows) for _ in range(get_world_size())]
    dist.all_gather(parts, rows.contiguous())
    return torch.cat(parts)


def nt_xent(first: Tensor, second: Tensor, temperature: float) -> Tensor:
    """SimCLR's loss: find the other view among all views of all processes but oneself.

    Source: arXiv 2002.05709, equation 1. With n images there are 2n - 2 negatives.

    Args:
        first: One view's embeddings, ``[B, D]``; they are L2-normalized here.
        second: The other view's, of the same images.
        temperature: What cosines are divided by.

    Returns:
        The mean over this process's 2B embeddings, fp32.
    """
    batch = len(first)
    mine = F.normalize(torch.cat([first, second]).float(), dim=1)
    # one after the other, so that the place of an image is its process's, then its own
    everyone = torch.cat([gather_with_gradient(view) for view in mine.split(batch)])
    with tf32_under_autocast(mine.device):
        logits = mine @ everyone.T / temperature
    images = len(everyone) // 2
    place = get_rank() * batch + torch.arange(batch, device=mine.device)
    itself = torch.cat([place, images + place])
    logits = logits.scatter(1, itself[:, None], float('-inf'))
    return F.cross_entropy(logits, torch.cat([images + place, place]))


def info_nce(query: Tensor, key: Tensor, bank: Tensor, temperature: float) -> Tensor:
    """MoCo's loss: tell an image's key from the keys of a bank.

    Source: arXiv 1911.05722, equation 1.

    Args:
        query: ``[B, D]``; L2-normalized here.
        key: Of the same images, likewise; gets no gradient.
        bank: ``[K, D]``, of length 1.
        temperature: What cosines are divided by.

    Returns:
        The mean over the batch, fp32: ln(K + 1) where all keys are equal.
    """
    query = F.normalize(query.float(), dim=1)
    key = F.normalize(key.detach().float(), dim=1)
    with tf32_under_autocast(query.device):
        own = (query * key).sum(1, keepdim=True)
        logits = torch.cat([own, query @ bank.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long, device=query.device))


class Projector(nn.Sequential):
    """SimCLR's head: (Linear, batch norm, ReLU) twice, then Linear.

    Args:
        in_dim: The encoder's width.
        hidden_dim: Of both hidden layers.
        out_dim: Of the embeddings.
    """

    def __init__(self, in_dim: int, hidden_dim: int, out_dim: int) -> None:
        super().__init__(
            # a bias before a batch norm would have no effect
            nn.Linear(in_dim, hidden_dim, bias=False),
            SharedBatchNorm(hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, hidden_dim, bias=False),
            SharedBatchNorm(hidden_dim),
            nn.ReLU(),
            nn.Linear(hidden_dim, out_dim),
        )
        self.out_dim = out_dim


def build_projector(in_dim: int, given: dict[str, Any] | None, **defaults: int) -> Projector:
    """A head as ``model.projector`` has it; what that leaves out is the method's.

    Raises:
        UserError: An argument is unknown, or a width no whole number from 1 up.
    """
    check_arguments(Projector, given or {}, 'model.projector', filled=('in_dim',))
    widths = {**defaults, **(given or {})}
    for name, width in widths.items():
        check_count(width, f'model.projector.{name}')
    return Projector(in_dim, **widths)


class SharedBatchNorm(nn.BatchNorm1d):
    """Batch norm over the rows of all processes; each has equally many.

    torch's ``SyncBatchNorm`` refuses gloo, so that nothing of it could be tried on a CPU.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Normalize rows ``[B, C]``, in fp32."""
        x = x.float()
        if not self.training or get_world_size() == 1:
            return super().forward(x)
        rows = len(x) * get_world_size()
        mean = differentiable.all_reduce(x.sum(0)) / rows
        variance = differentiable.all_reduce((x - mean).square().sum(0)) / rows
        self._track(mean.detach(), variance.detach() * (rows / (rows - 1)))
        return (x - mean) * torch.rsqrt(variance + self.eps) * self.weight + self.bias

    @torch.no_grad()
    def _track(self, mean: Tensor, variance: Tensor) -> None:
        assert self.running_mean is not None
        assert self.running_var is not None
        assert self.momentum is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        self.running_mean.lerp_(mean, self.momentum)
        self.running_var.lerp_(variance, self.momentum)


class KeyBank(nn.Module):
    """MoCo's queue: the keys of past steps, the same on every process; the oldest go first.

    Args:
        size: Keys K.
        dim: Width.

    Raises:
        UserError: ``size`` is below 1.
    """

    keys: Tensor
    pointer: Tensor

    def __init__(self, size: int, dim: int) -> None:
        super().__init__()
        if not isinstance(size, int) or size < 1:
            raise UserError(f'model.bank_size={size}: give a whole number, 1 up.')
        self.register_buffer('keys', torch.zeros(size, dim))
        self.register_buffer('pointer', torch.zeros(1, dtype=torch.long))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Random directions, as in MoCo's released code, but the same on every process."""
        generator = torch.Generator().manual_seed(0)
        keys = torch.randn(self.keys.shape, generator=generator, device='cpu')
        self.keys.copy_(F.normalize(keys, dim=1))
        self.pointer.zero_()

    def check_batch(self, images: int, in_dataset: int | None = None) -> None:
        """Refuse a step whose keys do not divide the bank, and a bank too large for the data set.

        Args:
            images: In a step, over all processes.
            in_dataset: In the data set; None if unknown.

        Raises:
            UserError: Naming both numbers.
        """
        size = len(self.keys)
        if in_dataset is not None and size > in_dataset // 2:
            # With a quarter of them one query in 32 meets the last key of its own image, with
            # half of them one in 8. Both limits are our choices.
            fits = max(in_dataset // 4 // images, 1) * images
            raise UserError(
                f'model.bank_size={size} for {in_dataset} images: many of them would meet their '
                'own earlier keys in the bank and be taught to differ from them. Give '
                + (
                    f'model.bank_size={fits}.'
                    if fits <= in_dataset // 2
                    else 'more images, or a smaller train_dataloader.batch_size and bank.'
                )
            )
        if size % images:
            raise UserError(
                f'model.bank_size={size} is no multiple of the {images} images of a step '
                '(train_dataloader.batch_size times processes): it must turn over in whole steps. '
                f'Give model.bank_size={max(1, size // images) * images}.'
            )

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """Overwrite the oldest keys by those of all processes.

        Args:
            keys: Of this process, ``[B, D]``; L2-normalized here.
        """
        new = gather(F.normalize(keys.float(), dim=1))
        rows = self.pointer + torch.arange(len(new), device=new.device)
        self.keys[rows % len(self.keys)] = new
        self.pointer.add_(len(new)).remainder_(len(self.keys))
