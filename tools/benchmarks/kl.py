"""MOCA's dense loss alone: in chunks, and over full tensors."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from moca.pretrain.moca.codebook import Codebook
from moca.pretrain.moca.kl import assignment_kl
from moca.pretrain.moca.method import MOCAPretrain
from moca.pretrain.moca.plain import assign, kl, take
from moca.pretrain.moca.targets import AssignmentTargets
from moca.pretrain.parts.masking import MaskRound
from tools.benchmarks.measure import peak_bytes, take_turns


@dataclass(frozen=True)
class DenseKL:
    """Time and memory of the dense loss and its gradients, assignments included.

    Attributes:
        seconds: Medians, of ours and over full tensors.
        bytes: The most at a time beyond features and prototypes, likewise.
    """

    seconds: tuple[float, float]
    bytes: tuple[int, int]

    @property
    def memory_ratio(self) -> float:
        """Our peak memory over that of full tensors."""
        return self.bytes[0] / self.bytes[1]

    def __str__(self) -> str:
        (ours, plain), (small, large) = self.seconds, self.bytes
        return (
            f'dense KL alone, forward and backward: {ours:.3f} s beside {plain:.3f} s over full '
            f'tensors (ratio {plain / ours:.3f});\n'
            f'    {small / 2**20:.1f} MiB beside {large / 2**20:.1f} MiB (ratio '
            f'{self.memory_ratio:.3f})'
        )


def measure_dense_kl(
    model: MOCAPretrain, batch: int, rounds: int, dtype: torch.dtype, device: torch.device
) -> DenseKL:
    """Measure it on random features of the sizes of a step, taking turns.

    Args:
        model: Whose codebook, widths and masks to use.
        batch: Images of two views each.
        rounds: How many times each is timed.
        dtype: Of autocast; float32 is none.
        device: Where to run.
    """
    draws = model.draw(batch, device)
    words, width = model.codebook.words.shape
    dense_width = model.decoder.embed.out_features
    teacher = torch.randn(2 * batch, draws.rounds[0].order.shape[1], width, device=device)
    dense = [
        torch.randn(2 * batch, mask.decoded, dense_width, device=device, requires_grad=True)
        for mask in draws.rounds
    ]
    prototypes = torch.randn(words, dense_width, device=device)
    prototypes = torch.nn.functional.normalize(prototypes, dim=1).requires_grad_()

    def ours() -> Tensor:
        targets = AssignmentTargets(model.codebook, teacher, model.central, draws.rounds)
        features = [tensor.flatten(0, 1) for tensor in dense]
        loss, _ = assignment_kl(features, prototypes, targets.dense(), model.kappa)
        return loss

    def full() -> Tensor:
        return full_dense_kl(model.codebook, teacher, dense, prototypes, draws.rounds, model.kappa)

    def both_directions(loss: Callable[[], Tensor]) -> Callable[[int], object]:
        enabled = dtype is not torch.float32

        def call(_: int) -> None:
            with torch.autocast(device.type, dtype if enabled else None, enabled=enabled):
                value = loss()
            value.backward()
            for leaf in (*dense, prototypes):
                leaf.grad = None

        return call

    calls = {'ours': both_directions(ours), 'full': both_directions(full)}
    seconds = take_turns(calls, rounds, device)
    return DenseKL(
        (statistics.median(seconds['ours']), statistics.median(seconds['full'])),
        (peak_bytes(calls['ours'], device), peak_bytes(calls['full'], device)),
    )


def full_dense_kl(
    codebook: Codebook,
    teacher: Tensor,
    dense: Sequence[Tensor],
    prototypes: Tensor,
    rounds: Sequence[MaskRound],
    kappa: float,
) -> Tensor:
    """The dense loss alone, over full tensors.

    Args:
        codebook: For the assignments.
        teacher: Teacher tokens ``[2B, L, C]``.
        dense: Of each round, ``[2B, decoded, D]``.
        prototypes: ``[K, D]``.
        rounds: Which tokens were decoded.
        kappa: Scale of the logits.
    """
    with torch.no_grad():
        codes = assign(codebook, teacher)
    losses = [
        kl(kappa * features @ prototypes.T, take(codes, mask.ids_decoded))
        for features, mask in zip(dense, rounds, strict=True)
    ]
    return torch.stack(losses).sum()
