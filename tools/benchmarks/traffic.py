"""What travels between the processes of a pre-training step, and an estimate of what that costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest.mock import patch

import torch
import torch.distributed as dist
from mmengine.registry import MODELS
from torch import nn

from moca.pretrain.can import CANPretrain
from moca.pretrain.macrl import MACRLPretrain
from moca.pretrain.moca.codebook import Codebook
from moca.pretrain.parts.contrastive import SharedBatchNorm

_FP32 = 4  # bytes; gradients, words and statistics are fp32, whatever the step computes in
_BUCKET = 25 << 20  # bytes of gradients that DDP sends at once, its default
_HOP = 10e-6  # seconds from process to process through a switch [our estimate]
_BACKWARD = 0.5  # share of a step in which gradients can travel meanwhile [our estimate]


@dataclass(frozen=True)
class Exchange:
    """One kind of collective in a step.

    Attributes:
        what: Travels.
        collective: ``all_reduce``, ``all_gather`` or ``all_to_all``.
        size: Bytes: of the tensor that is reduced; else of what all processes together give one.
        calls: How many collectives these are.
        hidden: Whether the backward pass goes on meanwhile.
    """

    what: str
    collective: str
    size: int
    calls: int
    hidden: bool = False

    def sent(self, processes: int) -> float:
        """Bytes that each process sends, in a ring."""
        rounds = 2 if self.collective == 'all_reduce' else 1
        return rounds * self.size * (processes - 1) / processes


def exchanges(model: nn.Module, batch: int, processes: int) -> list[Exchange]:
    """What a step sends, computed from a method's parts; the log's few hundred bytes left out.

    Args:
        model: A method of ``moca.pretrain``; may be on the device ``meta``.
        batch: Images a process.
        processes: In all.
    """
    gradients = sum(p.numel() for p in model.parameters() if p.requires_grad) * _FP32
    found = [
        Exchange('gradients', 'all_reduce', gradients, math.ceil(gradients / _BUCKET), hidden=True)
    ]
    for module in model.modules():
        if isinstance(module, Codebook):
            count, width = module.words.shape
            # how far each view's tokens spread, the new words, how often each word is used
            numbers = 2 + module.words_per_step * width + count
            found.append(Exchange('codebook', 'all_reduce', numbers * _FP32, 1))
    norms = [module for module in model.modules() if isinstance(module, SharedBatchNorm)]
    if norms:
        # mean and variance, each with its gradient where the layer trains
        calls = [4 if norm.weight.requires_grad else 2 for norm in norms]
        numbers = sum(n * norm.num_features for n, norm in zip(calls, norms, strict=True))
        found.append(Exchange('batch norm', 'all_reduce', numbers * _FP32, sum(calls)))
    if isinstance(model, CANPretrain):
        size = 2 * processes * batch * model.projector.out_dim * _FP32
        found.append(Exchange('embeddings', 'all_gather', size, 2))
        found.append(Exchange('their gradients', 'all_to_all', size, 2))
    if isinstance(model, MACRLPretrain):
        size = processes * batch * model.projector.out_dim * _FP32
        found.append(Exchange('keys', 'all_gather', size, 1))
    return found


def config_exchanges(cfg: Any, batch: int, processes: int) -> list[Exchange]:
    """As `exchanges`, of a config's method, for which no memory is taken."""
    cfg.model.backbone.pop('init_cfg', None)
    for teacher in cfg.model.get('teachers', {}).values():
        teacher.checkpoint = None
    with torch.device('meta'):
        return exchanges(MODELS.build(cfg.model), batch, processes)


def waiting(found: Sequence[Exchange], processes: int, gigabits: float, seconds: float) -> float:
    """Estimate for how long a step waits for the network, in seconds.

    Rings for bytes, trees for latency (as NCCL chooses by size); gradients travel while the
    backward pass goes on, but for the last bucket.

    Args:
        found: Of a step.
        processes: One a GPU.
        gigabits: A second and direction of the ring's slowest link.
        seconds: That a step takes one GPU alone.
    """
    hops = _HOP * 2 * math.ceil(math.log2(processes))
    waited = 0.0
    for each in found:
        time = each.sent(processes) * 8 / (gigabits * 1e9) + each.calls * hops
        last = time / each.calls
        waited += max(time - _BACKWARD * seconds, last) if each.hidden else time
    return waited


@contextmanager
def counted_collectives(model: Any) -> Iterator[Counter[str]]:
    """Count the bytes that pass through torch's collectives and the gradients of a DDP model.

    Args:
        model: In DDP; has no other hook of its communication.

    Yields:
        Bytes by the collective's name, as `Exchange.size` has them.
    """
    seen: Counter[str] = Counter()

    def gradients(group, bucket):  # type: ignore[no-untyped-def]  # DDP takes no text for a type
        averaged = bucket.buffer().div_(dist.get_world_size(group))
        dist.all_reduce(averaged, group=group)  # the one that counts
        done: torch.futures.Future[torch.Tensor] = torch.futures.Future()
        done.set_result(averaged)
        return done

    model.register_comm_hook(None, gradients)

    def counting(name: str, place: int) -> Callable[..., Any]:
        original = getattr(dist, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            given = args[place]
            tensors = [given] if isinstance(given, torch.Tensor) else given
            seen[name] += sum(tensor.nbytes for tensor in tensors)
            return original(*args, **kwargs)

        return call

    with ExitStack() as stack:
        for name, place in (('all_reduce', 0), ('all_gather', 0), ('all_to_all', 1)):
            stack.enter_context(patch.object(dist, name, counting(name, place)))
        yield seen


def describe(found: Sequence[Exchange], processes: int) -> str:
    """A table of what a process sends in a step."""
    rows = [f'{"":18}{"collective":>12}{"calls":>7}{"MB sent by each of":>20} {processes}']
    rows += [
        f'{each.what:18}{each.collective:>12}{each.calls:7d}{each.sent(processes) / 1e6:20.3f}'
        for each in found
    ]
    return '\n'.join(rows)
