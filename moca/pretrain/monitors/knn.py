"""k-NN accuracy of a run's encoder on labeled images, during training.

Source: MOCA's released evaluation: the mean of the patch tokens after the final norm, of length 1;
the k nearest images of a bank vote for their class with weight exp(cosine / temperature).
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import all_gather, get_dist_info
from mmengine.registry import HOOKS
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.hooks import set_hook
from moca.engine.ranges import check_count, check_each, check_number, check_positive
from moca.errors import UserError
from moca.evaluation.features import image_size
from moca.evaluation.labeled import Centered, Labeled, batches, hold_out, read_folder
from moca.evaluation.neighbors import Neighbors, vote
from moca.pretrain.monitors.base import (
    EncoderMonitor,
    encoder_of,
    evaluating,
    image_features,
    normalization_of,
    precision_of,
    report,
)

HELD_OUT = 0.1
"""Share of each class that is classified where no images are given for it."""

SAY_EVERY = 20.0
"""Seconds between lines of progress [our choice]."""


@HOOKS.register_module()
class KNNMonitor(EncoderMonitor):
    """Log the k-NN accuracy of the teacher (of a method without one: of the student).

    Before the first step, every ``interval`` epochs and after the last one, ``knn/top1_k10`` and
    the like go, in percent, to the log, the console and every visualization backend. Each process
    reads its share of the images; of the bank no features are kept. Images are resized and cut
    as `moca.evaluation.labeled.center` says and normalized as the training's views; features are
    computed in the run's precision.

    The run does not notice: no random number is drawn, no gradient made, no state changed.

    Args:
        bank: Folder with one subfolder of images for each class.
        queries: Another one, of classes of the bank's. None: a share of the bank is held out.
        held_out: That share of each class, its last images by name; .1.
        interval: In epochs. The bank is encoded once without gradients, which costs about a sixth
            of an epoch of MOCA on the same images; 10.
        k: Numbers of neighbors; MOCA's 10 and 20.
        temperature: Of the votes; .07, as in the released code's monitor during training.
        batch_size: Images a forward pass and process; 128.
        num_workers: Of reading, for each process.

    Raises:
        UserError: A folder or a field is not as said above, an image cannot be decoded, or features
            are no numbers.
    """

    def __init__(
        self,
        bank: str,
        queries: str | None = None,
        *,
        held_out: float = HELD_OUT,
        interval: int = 10,
        k: Sequence[int] = (10, 20),
        temperature: float = 0.07,
        batch_size: int = 128,
        num_workers: int = 0,
    ) -> None:
        super().__init__(interval)
        if not 0 < check_number(held_out, 'KNNMonitor.held_out') < 1:
            raise UserError(f'KNNMonitor.held_out={held_out}: give a share between 0 and 1.')
        k = check_each(k, 'KNNMonitor.k', check_count)
        check_positive(temperature, 'KNNMonitor.temperature')
        check_count(batch_size, 'KNNMonitor.batch_size')
        self.bank, self.queries = read_pair(bank, queries, held_out)
        if max(k) > len(self.bank):
            raise UserError(
                f'KNNMonitor.k={k}: the bank {bank} has {len(self.bank)} images. '
                'Give a smaller k or more images.'
            )
        self.k, self.temperature = k, temperature
        self.batch_size, self.num_workers = batch_size, num_workers

    def before_train(self, runner: Any) -> None:
        """Say how many images there are, and look at what training starts from."""
        for about in dict.fromkeys((self.bank.about, self.queries.about)):
            runner.logger.info(about)
        super().before_train(runner)

    def look(self, runner: Any, epoch: int) -> None:
        """Measure and log."""
        start = time.perf_counter()
        branch, encoder = encoder_of(runner.model)
        with evaluating(encoder):
            found = self._neighbors(runner, encoder)
        truth = torch.as_tensor(self.queries.labels, device=found.labels.device)
        scores = {}
        for k in self.k:
            right = vote(found.cosine[:, :k], found.labels[:, :k], self.temperature) == truth
            scores[f'knn/top1_k{k}'] = 100 * right.sum().item() / len(right)
        about = f'{len(self.bank)} + {len(self.queries)} images of {len(self.bank.classes)} '
        about += f'classes in {time.perf_counter() - start:.1f} s'
        report(runner, scores, epoch, f'k-NN of the {branch}', about)

    def _neighbors(self, runner: Any, encoder: PlainViT) -> Neighbors:
        rank, world_size = get_dist_info()
        # Every process gets equally many queries, the first ones again where they do not divide.
        padded = -(-len(self.queries) // world_size) * world_size
        mine = [i % len(self.queries) for i in range(rank, padded, world_size)]
        features = torch.cat(list(self._features(runner, encoder, self.queries.part(mine))))
        queries = torch.stack(all_gather(features), dim=1).flatten(0, 1)[: len(self.queries)]
        found = Neighbors(queries, max(self.k))
        share = self.bank.part(slice(rank, None, world_size))
        labels = torch.as_tensor(share.labels, device=queries.device).split(self.batch_size)
        for features, theirs in zip(self._features(runner, encoder, share), labels, strict=True):
            found.add(features, theirs)
        whole = Neighbors(queries, max(self.k))
        gathered = (all_gather(each) for each in (found.cosine, found.labels, found.rows))
        for parts in zip(*gathered, strict=True):
            whole.merge(*parts)
        # in all processes alike; a cosine that is no number is sorted before all others
        if not (queries.isfinite().all() and whole.cosine.isfinite().all()):
            raise UserError(
                "KNNMonitor: the encoder's features are not all finite numbers, so that k-NN means "
                'nothing. The training has diverged: go on from an earlier checkpoint with a '
                'smaller learning rate or without --amp, or remove default_hooks.knn.'
            )
        return whole

    def _features(self, runner: Any, encoder: PlainViT, labeled: Labeled) -> Iterator[Tensor]:
        centered = Centered(labeled.paths, image_size(encoder), *normalization_of(runner))
        done, said = 0, time.perf_counter()
        for images in batches(centered, self.batch_size, self.num_workers):
            yield image_features(encoder, images, precision_of(runner))
            done += len(images)
            if time.perf_counter() - said > SAY_EVERY:
                said = time.perf_counter()
                runner.logger.info(f'k-NN: {done:,} of {len(labeled):,} images of this process')


def read_pair(
    bank: str, queries: str | None = None, held_out: float = HELD_OUT
) -> tuple[Labeled, Labeled]:
    """A bank and queries with the bank's labels; see `KNNMonitor`."""
    images = read_folder(bank, 'KNNMonitor.bank')
    if queries is None:
        return hold_out(images, held_out)
    asked = read_folder(queries, 'KNNMonitor.queries')
    unknown = sorted(set(asked.classes) - set(images.classes))
    if unknown:
        raise UserError(
            f'KNNMonitor.queries {queries}: the bank {bank} has no class {", ".join(unknown[:3])}'
            f'{", ..." if len(unknown) > 3 else ""}. Both folders need the same class names.'
        )
    if Path(queries).resolve() == Path(bank).resolve():
        raise UserError(
            f'KNNMonitor.queries {queries} is the bank: each image would find itself. Give '
            'another folder, or none, and a share of the bank is held out.'
        )
    label = {name: number for number, name in enumerate(images.classes)}
    numbers = torch.tensor([label[name] for name in asked.classes]).numpy()
    return images, Labeled(asked.paths, numbers[asked.labels], images.classes, asked.about)


def add_knn_hook(
    cfg: Config, bank: str, queries: str | None = None, interval: int | None = None
) -> None:
    """Add a `KNNMonitor` to a pre-training config, which is changed, or change the one it has.

    Images are read by as many workers as the config's training images.

    Args:
        cfg: Of a pre-training run.
        bank: Labeled folder.
        queries: Another one, or None to hold out a share of the bank.
        interval: In epochs; None keeps the hook's own.
    """
    given: dict[str, Any] = dict(
        bank=str(bank),
        queries=None if queries is None else str(queries),
        num_workers=cfg.train_dataloader.get('num_workers', 0),
    )
    if interval is not None:
        given['interval'] = interval
    set_hook(cfg, 'knn', type='KNNMonitor', **given)
