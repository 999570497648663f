"""Features of all images of a set: computed once, in parts, by one or many processes.

A set is cut into parts of at most `PART` images, whatever the number of processes, so that a part's
batches and with them its features are the same bit for bit. Where a folder is given, each part is
a file there as soon as it is computed: another evaluation of the same features reads it, and one
that was interrupted goes on.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
import torch
from mmengine.dist import broadcast, get_dist_info
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from moca.backbone import PlainViT
from moca.engine.ranges import check_number
from moca.engine.same_run import digests
from moca.errors import UserError
from moca.evaluation.features import check_finite, feature_width, image_feature, image_size
from moca.evaluation.image_sets import file_states
from moca.evaluation.labeled import INTERPOLATIONS, Labeled, center, normalize
from moca.evaluation.protocol import EvaluationRun
from moca.records.whole_files import write_atomically

PART, SMALLEST, PARTS = 1024, 64, 32
"""Images of a part: at most and at least, and into how many parts smaller sets are cut, for several
processes to share [our choice: 1024 are 3 MB of ViT-B's features, some seconds of one GPU]."""

WITH_RUNS = 'auto'
"""Stands for the folder of features of all runs, or for one in the run's own work dir."""

_SHARED = Path('work_dirs', 'features')


def features_folder(asked: str | None, work_dir: str | Path) -> Path | None:
    """Where computed features are kept.

    Args:
        asked: A folder; None to keep none; `WITH_RUNS` for ``work_dirs/features``, which all
            evaluations of the same features read, where the work dir lies in ``work_dirs``, and
            for ``features`` in the work dir where it lies elsewhere.
        work_dir: Of the run.
    """
    if asked != WITH_RUNS:
        return None if asked is None else Path(asked)
    if Path(work_dir).resolve().is_relative_to(_SHARED.parent.resolve()):
        return _SHARED
    return Path(work_dir) / 'features'


def model_facts(model: PlainViT) -> dict[str, Any]:
    """What features depend on of a backbone: its weights, how they are used, normalization."""
    return {
        'weights': digests(dict(model.state_dict())),
        'vit': [
            *(model.num_heads, model.norm_eps, model.patch_size, model.grid),
            *(model.interpolation or 'bicubic', repr(model.rope), model.no_embed_class),
        ],
        'normalization': [*model.mean, *model.std],
    }


@dataclass(frozen=True)
class Cut:
    """How an image of any size becomes one of the backbone's size; see `moca.evaluation.labeled`.

    Attributes:
        interpolation: ``bicubic`` or ``bilinear``.
        share: Of the resized image's side that is kept; None for .875 from 224 pixels on, and all
            below.

    Raises:
        UserError: There is no such interpolation, or the share is none.
    """

    interpolation: str = 'bicubic'
    share: float | None = None

    def __post_init__(self) -> None:
        if self.interpolation not in INTERPOLATIONS:
            raise UserError(
                f'evaluation.interpolation={self.interpolation!r}: give one of '
                f'{", ".join(INTERPOLATIONS)}.'
            )
        if self.share is not None and not 0 < check_number(self.share, 'evaluation.share') <= 1:
            raise UserError(f'evaluation.share={self.share}: give a share above 0, up to 1.')


class CutImages(Dataset[Tensor]):
    """Images of a set as a backbone takes them, ``[3, *size]`` fp32.

    Args:
        images: The set.
        size: Height and width in pixels.
        cut: How they become of that size.
        mean: Per channel, of images scaled to [0, 1].
        std: Likewise.
    """

    def __init__(
        self,
        images: Labeled,
        size: tuple[int, int],
        cut: Cut,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> None:
        self.images, self.size, self.cut, self.mean, self.std = images, size, cut, mean, std

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Tensor:
        image = self.images.image(index)
        image = center(image, self.size, self.cut.share, self.cut.interpolation)
        return normalize(image, self.mean, self.std)


class ImageFeatures:
    """One feature of every image of a set, by a frozen backbone.

    Args:
        model: In eval mode, built for the size at which images are evaluated; they are normalized
            with its own ``mean`` and ``std``.
        images: The set.
        cut: How images become of the model's size.
        kind: Of :func:`moca.evaluation.features.image_feature`.
        run: Device, precision, batch size, workers, and the folder of computed features.
        about: What the images are, for the log.
    """

    def __init__(
        self,
        model: PlainViT,
        images: Labeled,
        cut: Cut,
        kind: str,
        run: EvaluationRun,
        about: str,
    ) -> None:
        self.model, self.images, self.cut, self.kind = model, images, cut, kind
        self.run, self.about = run, about
        self.width = feature_width(kind, model.embed_dims)
        self.size = image_size(model)
        self.step = min(PART, max(SMALLEST, -(-len(images) // PARTS)))
        starts = range(0, len(images), self.step)
        self.parts = [slice(start, min(start + self.step, len(images))) for start in starts]

    def own(self) -> Iterator[tuple[slice, Tensor]]:
        """This process's share of the set: places, and features ``[n, F]`` fp32 on the CPU.

        All processes together give every image once.

        Raises:
            UserError: An image cannot be decoded, or a feature is not finite.
        """
        rank, processes = get_dist_info()
        mine = range(rank, len(self.parts), processes)
        missing = {number for number in mine if self._read(number) is None}
        computed = self._compute(sorted(missing))
        for number in mine:
            if number in missing:
                features = self._checked(next(computed))
                self._write(number, features)
            else:
                stored = self._read(number)
                if stored is None:
                    raise UserError(
                        f'{self.folder}: features that were there are gone. Run again, and leave '
                        'loading.cache alone meanwhile.'
                    )
                features = self._checked(torch.from_numpy(np.array(stored)))
            yield self.parts[number], features

    def whole(self) -> Tensor:
        """Features of the whole set, ``[N, F]`` fp32 on the CPU, in every process.

        Raises:
            UserError: As `own`.
        """
        found = torch.empty(len(self.images), self.width)
        for part, features in self.own():
            found[part] = features
        _, processes = get_dist_info()
        if processes > 1:
            for number, part in enumerate(self.parts):
                shared = found[part].to(self.run.device)
                broadcast(shared, src=number % processes)
                found[part] = shared.cpu()
        return found

    def _checked(self, features: Tensor) -> Tensor:
        return check_finite(features, self.about, self.run.precision)

    def _compute(self, numbers: Sequence[int]) -> Iterator[Tensor]:
        """Features of some parts, in their order."""
        if not numbers:
            return
        batches: list[list[int]] = []
        counts = []
        for number in numbers:
            places = range(self.parts[number].start, self.parts[number].stop)
            step = self.run.batch_size
            batches += [[*places[start : start + step]] for start in range(0, len(places), step)]
            counts.append(len(places))
        loader = DataLoader(
            CutImages(self.images, self.size, self.cut, self.model.mean, self.model.std),
            batch_sampler=batches,
            num_workers=self.run.num_workers,
            pin_memory=self.run.device.type == 'cuda',
            # draws nothing from torch's global generator
            generator=torch.Generator(),
        )
        found: list[Tensor] = []
        for images in self.run.progress(loader, self.about):
            with torch.no_grad():
                features = image_feature(self.model, images, self.kind, self.run.precision)
            found.append(features.cpu())
            if sum(map(len, found)) == counts[0]:
                yield torch.cat(found)
                found, counts = [], counts[1:]

    @cached_property
    def folder(self) -> Path | None:
        """Where parts are kept: below the run's folder of features, by all that they depend on."""
        if self.run.cache is None:
            return None
        text = json.dumps(self._facts(), sort_keys=True)
        return self.run.cache / sha256(text.encode()).hexdigest()[:24]

    def _facts(self) -> dict[str, Any]:
        """What features depend on: weights, their use, images, how they are cut, precision."""
        return {
            **model_facts(self.model),
            'images': file_states(self.images),
            'cut': asdict(self.cut),
            'feature': self.kind,
            'precision': str(self.run.precision or torch.float32),
            'batch': self.run.batch_size,
            'part': self.step,
        }

    def _read(self, number: int) -> NDArray[np.float32] | None:
        """A part that was computed before, left in its file; None if it is missing or damaged."""
        if self.folder is None:
            return None
        part = self.parts[number]
        try:
            found: NDArray[np.float32] = np.load(self.folder / f'{number:06d}.npy', mmap_mode='r')
        except (OSError, ValueError):
            return None
        if found.shape != (part.stop - part.start, self.width) or found.dtype != np.float32:
            return None
        return found

    def _write(self, number: int, features: Tensor) -> None:
        if self.folder is not None:
            content = io.BytesIO()
            np.save(content, features.numpy())
            write_atomically(self.folder / f'{number:06d}.npy', content.getvalue())
