"""What stands on a backbone's features: one linear layer, or 45 of them side by side."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from mmengine.model import BaseModule
from mmengine.model.weight_init import trunc_normal_
from mmengine.registry import MODELS
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from moca.engine.seeding import mixed_seed
from moca.errors import UserError

SWEEP_RATES = tuple(factor * 10.0**exponent for exponent in range(-4, 1) for factor in range(1, 10))
"""Learning rates of 256 images, {1..9} x {1e-4..1e0}: bytedance/ibot,
evaluation/eval_linear_multi.py, and valeoai/MOCA, eval_linear.py."""

_NORMS = ('batch', 'layer')


def check_classes(num_classes: Any) -> int:
    """The number of classes, if it is one.

    Raises:
        UserError: It is no whole number from 2 up.
    """
    if not isinstance(num_classes, int) or num_classes < 2:
        raise UserError(f'model.head.num_classes={num_classes!r}: give a whole number from 2 up.')
    return num_classes


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """Mean cross-entropy, in fp32.

    Args:
        logits: ``[B, K]``.
        targets: Classes ``[B]``, or what Mixup makes of them, ``[B, K]``: smoothed already.
    """
    if targets.ndim == 2:
        loss: Tensor = SoftTargetCrossEntropy()(logits.float(), targets)
        return loss
    return F.cross_entropy(logits.float(), targets)


@MODELS.register_module()
class ClassHead(BaseModule):
    """One linear layer, on standardized features if asked to.

    Args:
        in_channels: Width of the features.
        num_classes: K.
        norm: None; ``batch`` for MAE's linear probe, a batch norm without affine weights whose
            training statistics are each process's own (main_linprobe.py: eps 1e-6, momentum .1);
            ``layer`` for fine-tuning, a fresh LayerNorm of eps 1e-6 (models_vit.py of MAE and
            MOCA, ``fc_norm``).
        std: Of the weights at the start; biases are zero. .01 for linear probes, 2e-5 for
            fine-tuning (main_finetune.py).
        truncated: Draw from a normal distribution cut at two deviations, as MAE does; else from a
            whole one, as DINO does.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        norm: str | None = None,
        std: float = 0.01,
        truncated: bool = True,
    ) -> None:
        super().__init__()
        if norm is not None and norm not in _NORMS:
            raise UserError(f'model.head.norm={norm!r} is none of {", ".join(_NORMS)}, or None.')
        self.norm: nn.Module = nn.Identity()
        if norm == 'batch':
            self.norm = nn.BatchNorm1d(in_channels, eps=1e-6, momentum=0.1, affine=False)
        elif norm == 'layer':
            self.norm = nn.LayerNorm(in_channels, eps=1e-6)
        self.linear = nn.Linear(in_channels, check_classes(num_classes))
        self.std, self.truncated = std, truncated
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew."""
        if self.truncated:
            # MAE cuts at +-2, which is no cut at all at these deviations
            trunc_normal_(self.linear.weight, std=self.std, a=-2.0, b=2.0)
        else:
            nn.init.normal_(self.linear.weight, std=self.std)
        nn.init.zeros_(self.linear.bias)

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[1, B, K]`` of features ``[B, F]``; the first axis counts heads."""
        logits: Tensor = self.linear(self.norm(features))
        return logits[None]

    def losses(self, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The mean cross-entropy of features ``[B, F]`` with targets ``[B]`` or ``[B, K]``."""
        return {'loss': cross_entropy(self(features)[0], targets)}

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """Two groups, as LARS needs them: it adapts the rate of the weight and not of the bias.

        Args:
            rate: Of 256 images.
        """
        groups = [dict(params=[self.linear.weight], lr=rate, always_adapt=True)]
        groups.append(dict(params=[self.linear.bias], lr=rate, always_adapt=False))
        if isinstance(self.norm, nn.LayerNorm):
            groups.append(dict(params=[*self.norm.parameters()], lr=rate, always_adapt=False))
        return groups


@MODELS.register_module()
class SweepHead(BaseModule):
    """Linear layers side by side on the same features, each trained at a rate of its own.

    They share nothing: each has its weights, its optimizer's state and its gradients, as if it
    were trained alone. One that diverges takes no further steps, and the others do not notice.

    Args:
        in_channels: Width of the features.
        num_classes: K.
        rates: Learning rates of 256 images, ascending.
        std: Of the weights at the start; biases are zero (DINO's and iBOT's LinearClassifier).

    Raises:
        UserError: There is no rate, or one is not above the one before it.
    """

    def __init__(
        self,
        in_channels: int,
        num_classes: int,
        rates: Sequence[float] = SWEEP_RATES,
        std: float = 0.01,
    ) -> None:
        super().__init__()
        increasing = all(low < high for low, high in pairwise(rates))
        if not rates or rates[0] <= 0 or not increasing:
            raise UserError(f'model.head.rates={list(rates)}: give rates above 0, ascending.')
        self.rates = tuple(rates)
        check_classes(num_classes)
        # before layers draw weights that are thrown away, as many as there are heads
        self._first = int(torch.randint(2**31, ()))
        self.heads = nn.ModuleList(nn.Linear(in_channels, num_classes) for _ in rates)
        self.std = std
        self.reset_parameters()
        for parameter in self.parameters():
            parameter.register_hook(_without_nan)

    def reset_parameters(self) -> None:
        """Draw the weights anew, each head's from a generator of its own.

        A head then starts from the same weights whichever others are trained beside it.
        """
        for head, rate in zip(self.heads, self.rates, strict=True):
            seed = mixed_seed(self._first, round(rate * 1e9))
            generator = torch.Generator().manual_seed(seed)
            weight: Any = head.weight
            drawn = torch.randn(weight.shape, generator=generator) * self.std
            with torch.no_grad():
                weight.copy_(drawn)
            nn.init.zeros_(head.bias)  # type: ignore[arg-type]

    def forward(self, features: Tensor) -> Tensor:
        """Logits ``[heads, B, K]`` of features ``[B, F]``."""
        return torch.stack([head(features) for head in self.heads])

    def losses(self, features: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """The sum of the heads' mean cross-entropies, and for logs the smallest of them."""
        each = torch.stack([cross_entropy(head(features), targets) for head in self.heads])
        finite = each.isfinite()
        return {
            'loss': each.where(finite, 0.0).sum(),
            'smallest': each.detach().where(finite, torch.inf).min(),
        }

    def parameter_groups(self, rate: float) -> list[dict[str, Any]]:
        """One group a head, which learns at ``rate`` times its own."""
        return [
            dict(params=[*head.parameters()], lr=rate * own)
            for head, own in zip(self.heads, self.rates, strict=True)
        ]


def _without_nan(gradient: Tensor) -> Tensor:
    return gradient.nan_to_num(0.0, 0.0, 0.0)
