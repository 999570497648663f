"""In-context segmentation: labeled patches as examples, nothing trained.

Sources: "Towards In-context Scene Understanding" (Balazevic et al., NeurIPS 2023) and
open-hummingbird-eval 2.0.0, whose published tables are the protocol's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, get_args

import torch
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count, check_positive
from moca.errors import UserError
from moca.evaluation.dense.bank import Bank, BankSettings, stored_bank
from moca.evaluation.dense.confusion import (
    Confusion,
    miou_hungarian,
    miou_identity,
    miou_occurring,
    miou_present,
    pixel_accuracy,
)
from moca.evaluation.dense.encoding import encoded, whole_patches
from moca.evaluation.dense.kept import KeptPredictions
from moca.evaluation.dense.labeled_maps import (
    check_labels,
    check_settings,
    read_bank_and_queries,
)
from moca.evaluation.dense.patch_labels import VOIDS, Void
from moca.evaluation.dense.search import Backend, BankSearch
from moca.evaluation.dense.soft_vote import NEIGHBORS, TEMPERATURE, label_maps, soft_vote
from moca.evaluation.dense.squared import Squares, SquashTensor
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result
from moca.segmentation.label_maps import IGNORE

_SHOWN = 5  # names in a line of the log


@dataclass(frozen=True)
class _Voting:
    """A bank and how it is asked."""

    bank: Bank
    search: BankSearch
    neighbors: int
    temperature: float

    def distributions(self, queries: Tensor) -> Tensor:
        """Class shares ``[B, N, C]`` of patches ``[B, N, D]``."""
        images, patches, _ = queries.shape
        cosine, numbers = self.search.nearest(queries.flatten(0, 1), self.neighbors)
        shares = self.bank.shares
        voted = [  # an image at a time: all of a batch would be k times its distributions
            soft_vote(weights, shares[rows.to(shares.device)].to(weights.device), self.temperature)
            for weights, rows in zip(cosine.split(patches), numbers.split(patches), strict=True)
        ]
        return torch.stack(voted).view(images, patches, -1)


@TASK_UTILS.register_module()
class InContext(Evaluation):
    """Segment images by the nearest patches of a bank of labeled ones.

    Metrics in percent: ``mIoU`` over the classes in truth or prediction, as mmseg's;
    ``mIoU_present`` over those in the truth; ``mIoU_source``, the published column: predicted
    classes are matched to true ones first, and all classes count, absent ones as 0; ``mIoU_all``
    the same without the matching; ``aAcc`` the share of right pixels. Where ``mIoU_source`` is
    larger than ``mIoU_all``, classes are confused as a whole.

    Args:
        train: Config of the mmseg data set that the bank is made of, or of several in a
            `ConcatDataset`.
        val: Of the images to be segmented, of the same classes.
        size: Images are squares of this side in pixels, rounded down to whole patches; the metric
            is taken at that size. 512 for patches of 16, which is 504 for patches of 14.
        memory: Rows of the bank, about; the published ones are 1024 times 10^2, 10^3 and 10^4.
            None for all patches.
        epochs: How often each image of the bank is cut at random; 2 in the published tables.
        neighbors: k.
        temperature: Of the softmax over neighbors.
        void: What ignored pixels of the bank are: ``class0``, as in the source, or ``drop``.
        ignored: Classes that do not count as truth, such as ADE20K's 0.
        search: ``blocks`` or ``faiss``; both exact.
        keep: Of how many images, evenly spread, predictions are kept in the work dir, for
            ``tools/visualize.py segmentation``.

    Raises:
        UserError: A setting is out of its range.
    """

    def __init__(
        self,
        train: dict[str, Any],
        val: dict[str, Any],
        *,
        size: int = 512,
        memory: int | None = 1024 * 10**2,
        epochs: int = 2,
        neighbors: int = NEIGHBORS,
        temperature: float = TEMPERATURE,
        void: Void = 'class0',
        ignored: Sequence[int] = (),
        search: Backend = 'blocks',
        keep: int = 8,
    ) -> None:
        check_settings(size=size, epochs=epochs, neighbors=neighbors)
        if memory is not None:
            check_settings(memory=memory)
        check_positive(temperature, 'evaluation.temperature')
        check_labels(ignored, 'evaluation.ignored')
        check_count(keep, 'evaluation.keep', lowest=0)
        if void not in VOIDS:
            raise UserError(f'evaluation.void={void!r}: give one of {", ".join(VOIDS)}.')
        if search not in get_args(Backend):
            raise UserError(
                f'evaluation.search={search!r}: give one of {", ".join(get_args(Backend))}.'
            )
        self.train_data, self.val_data = train, val
        self.size, self.memory, self.epochs, self.neighbors = size, memory, epochs, neighbors
        self.temperature, self.void, self.search = temperature, void, search
        self.ignored, self.keep = tuple(ignored), keep

    def prepare(self) -> None:
        """List and check both data sets.

        Raises:
            UserError: A file is missing or wrong, an image is in both, or the bank is smaller than
                k.
        """
        self.train, self.val = read_bank_and_queries(self.train_data, self.val_data)
        self.train_images, self.val_images = len(self.train), len(self.val)
        images = len(self.train) * self.epochs
        if self.memory is not None:
            rows = images * max(self.memory // images, 1)
            if rows < self.neighbors:
                raise UserError(
                    f'evaluation.neighbors={self.neighbors}: the bank has {rows} rows '
                    f'(evaluation.memory={self.memory} for {images} images). Give a larger '
                    'memory or fewer neighbors.'
                )

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Fill the bank, segment the queries, and measure."""
        size = whole_patches(self.size, model.patch_size, 'evaluation.size')
        settings = BankSettings(size, self.memory, self.epochs, self.void)
        bank = stored_bank(model, self.train, run, settings)
        search = BankSearch(bank.features, backend=self.search)
        voting = _Voting(bank, search, self.neighbors, self.temperature)
        confusion = Confusion(self.train.num_classes, (*self.ignored, IGNORE))
        side = size // model.patch_size
        kept = KeptPredictions(run.work_dir, len(self.val), self.keep)
        squares = Squares(self.val, SquashTensor(size, model.mean, model.std))
        for features, labels in encoded(model, squares, run, 'queries'):
            maps = label_maps(voting.distributions(features), (side, side), (size, size))
            confusion.add(labels.to(maps.device), maps)
            kept.add(maps)
        missing = self._say_missing(bank, confusion)
        counts = confusion.counts
        metrics = {
            'mIoU': miou_occurring(counts),
            'mIoU_present': miou_present(counts),
            'mIoU_source': miou_hungarian(counts),
            'mIoU_all': miou_identity(counts),
            'aAcc': pixel_accuracy(counts),
        }
        told = {
            'size': size,
            'memory': self.memory,
            'bank_rows': search.count,
            'rows_per_image': bank.rows_per_image,
            'epochs': self.epochs,
            'neighbors': self.neighbors,
            'temperature': self.temperature,
            'void': self.void,
            'ignored': list(self.ignored),
            'search': f'exact ({self.search})',
            'classes': self.train.num_classes,
            'classes_without_bank_patch': missing,
        }
        return Result(metrics=metrics, chosen={}, settings=told)

    def _say_missing(self, bank: Bank, confusion: Confusion) -> list[int]:
        """Classes of the queries that no patch of the bank holds: their IoU is 0."""
        asked = confusion.counts.sum(1) > 0
        missing = [int(number) for number in bank.missing_classes() if asked[number]]
        if missing:
            names = [self.train.names[number] for number in missing[:_SHOWN]]
            more = ' ...' if len(missing) > _SHOWN else ''
            print_log(
                f'Classes of the queries that no patch of the bank holds: {len(missing)} '
                f'({", ".join(names)}{more}). Their IoU is 0; a larger bank may hold them.',
                'current',
                level=30,
            )
        return missing
