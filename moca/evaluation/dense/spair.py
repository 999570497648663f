"""SPair-71k: keypoints of one image, found in another of the same class; nothing trained."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from numpy.typing import NDArray
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count
from moca.errors import UserError
from moca.evaluation.dense.correspondence import (
    ALIGNS,
    SHARE,
    Align,
    drawn,
    errors,
    in_both,
    match,
    on_square,
    recall,
)
from moca.evaluation.dense.spair_data import (
    VIEWPOINTS,
    KeypointImage,
    KeypointPair,
    SPairData,
    read_image,
    read_spair,
)
from moca.evaluation.dense.square_padding import pad_to_patches, patch_margin, square_tensor
from moca.evaluation.features import check_finite, patch_map
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result

Norm = Literal['none', 'final', 'best']

ALL = 'all'
"""The group of pairs of all viewpoints, which the published numbers are of."""

Errors = dict[Align, NDArray[np.float64]]


class MapsOfImages:
    """Features of square images, each computed once and kept.

    Args:
        model: In eval mode.
        size: Side of the squares in pixels.
    """

    def __init__(self, model: PlainViT, size: int) -> None:
        self.model, self.size = model, size
        self.margin = patch_margin(size, model.patch_size)
        self.kept: dict[KeypointImage, Tensor] = {}

    def raw(self, image: KeypointImage) -> Tensor:
        """Features before the final norm ``[D, h, w]``."""
        if image not in self.kept:
            square = square_tensor(read_image(image), self.size, self.model.mean, self.model.std)
            device = next(self.model.parameters()).device
            padded = pad_to_patches(square[None].to(device), self.model.patch_size)
            with torch.no_grad():
                found = patch_map(self.model, padded, norm=False)[0]
            self.kept[image] = check_finite(found, str(image.path))
        return self.kept[image]

    @torch.no_grad()
    def unit(self, image: KeypointImage, final_norm: bool) -> Tensor:
        """Features of length 1 in each cell ``[D, h, w]``, after the final norm or before it."""
        maps = self.raw(image)
        if final_norm:
            maps = self.model.norm(maps.permute(1, 2, 0)).permute(2, 0, 1).float()
        return F.normalize(maps, dim=0)


def matched(
    maps: MapsOfImages,
    pair: Sequence[KeypointImage],
    points: Sequence[NDArray[np.int64]],
    final_norm: bool,
    align: Align,
) -> Tensor:
    """Where the keypoints of the first image are in the second, as shares of its side ``[K, 2]``.

    Args:
        maps: Of the images.
        pair: Both images.
        points: Their keypoints on the square, ``[K, 3]``; those of the first are looked for.
        final_norm: Whether features are taken after the final norm.
        align: See :data:`moca.evaluation.dense.correspondence.ALIGNS`.
    """
    source, target = (maps.unit(image, final_norm) for image in pair)
    asked = torch.from_numpy(points[0][:, :2]).to(source.device)
    return match(source, target, asked, maps.size, maps.margin, align)[0]


def square_points(image: KeypointImage, size: int) -> NDArray[np.int64]:
    """The keypoints of an image on its square; see `on_square`."""
    return on_square(image.points, max(image.size), size)


@TASK_UTILS.register_module()
class SPair(Evaluation):
    """Match the keypoints of pairs of images.

    Metrics in percent: ``PCK``, the share of keypoints that are found within .1 of the larger side
    of the target's box, those of a class together, then the mean over classes;
    ``PCK_viewpoint0`` to ``2`` of pairs whose viewpoints differ little to much; ``PCK_probe3d``,
    ``PCK_centered`` and ``PCK_pixels`` as ``PCK``, under other alignments than the protocol's.

    Args:
        data_root: The folder ``SPair-71k``.
        split: Of its ``PairAnnotation``.
        size: Images are squares of this side in pixels.
        size_14: Its place for patches of 14; None for the same. What is no multiple of the patch
            is padded with the mean color on all sides.
        norm: Features before the final norm (``none``), after it (``final``), or those of the two
            with the larger ``PCK`` (``best``), which chooses on the test data, as DINOv3 does.
        pairs: Of each class and viewpoint at most.
        align: See :data:`moca.evaluation.dense.correspondence.ALIGNS`.

    Raises:
        UserError: A setting is out of its range.
    """

    counted = 'pairs'

    def __init__(
        self,
        data_root: str,
        *,
        split: str = 'test',
        size: int = 800,
        size_14: int | None = None,
        norm: Norm = 'none',
        pairs: int = 200,
        align: Align = 'probe3d',
    ) -> None:
        check_count(size, 'evaluation.size')
        check_count(pairs, 'evaluation.pairs')
        if size_14 is not None:
            check_count(size_14, 'evaluation.size_14')
        if norm not in get_args(Norm):
            raise UserError(f'evaluation.norm={norm!r}: give one of {", ".join(get_args(Norm))}.')
        if align not in ALIGNS:
            raise UserError(f'evaluation.align={align!r}: give one of {", ".join(ALIGNS)}.')
        self.data_root, self.split = data_root, split
        self.size, self.size_14, self.norm = size, size_14, norm
        self.pairs, self.align = pairs, align
        self.aligns = (align, *(other for other in ALIGNS if other not in (align, 'pixels')))

    def prepare(self) -> None:
        """Read all annotations, and draw the pairs of each class and viewpoint.

        Raises:
            UserError: A file is missing or wrong.
        """
        self.data = read_spair(self.data_root, self.split, 'evaluation.data_root')
        self.groups = groups_of(self.data, self.pairs)
        # of the split, as others tell them: how many are drawn of these is the protocol's
        self.train_images, self.val_images = 0, len(self.data.pairs)

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Match every pair, class by class, and measure."""
        size = self.size_14 if self.size_14 and model.patch_size == 14 else self.size
        self._say_padding(size, model.patch_size)
        variants = {'none': (False,), 'final': (True,), 'best': (False, True)}[self.norm]
        found: dict[bool, dict[KeypointPair, Errors]] = {norm: {} for norm in variants}
        for category in run.progress(self.data.categories, 'classes'):
            maps = MapsOfImages(model, size)  # of one class: all together would fill the memory
            for pair in self._pairs_of(category):
                for norm in variants:
                    found[norm][pair] = self._errors(maps, pair, norm)
        scores = {norm: self._metrics(found[norm]) for norm in variants}
        best = max(variants, key=lambda norm: scores[norm]['PCK'])
        chosen = {}
        if self.norm == 'best':
            both = {f'PCK_norm_{name}': scores[norm]['PCK'] for norm, name in _NORMS.items()}
            chosen = {'norm': _NORMS[best], **both}
        settings = {
            'size': size,
            'padding': patch_margin(size, model.patch_size),
            'norm': self.norm,
            'align': self.align,
            'pairs_per_group': self.pairs,
            'pairs': len(found[best]),
            'threshold': SHARE,
        }
        return Result(metrics=scores[best], chosen=chosen, settings=settings)

    def _say_padding(self, size: int, patch: int) -> None:
        margin = patch_margin(size, patch)
        if size % patch:
            print_log(
                f'{size} pixels are not whole patches of {patch}: images are padded by {margin} '
                'pixels on each side, of which the alignment probe3d takes no account.',
                'current',
            )

    def _pairs_of(self, category: str) -> list[KeypointPair]:
        """The pairs of all groups of a class, each once."""
        groups = [group for (mine, _), group in self.groups.items() if mine == category]
        return list(dict.fromkeys(pair for group in groups for pair in group))

    def _errors(self, maps: MapsOfImages, pair: KeypointPair, final_norm: bool) -> Errors:
        images = [self.data.images[pair.category, name] for name in (pair.source, pair.target)]
        points = [square_points(image, maps.size) for image in images]
        both = in_both(*points)
        kept = [each[both] for each in points]
        found: Errors = {}
        for align in self.aligns:
            if len(both):
                places = matched(maps, images, kept, final_norm, align)
                found[align] = errors(places, kept[1], maps.size, pair.threshold_scale)
            else:
                found[align] = np.empty(0)
        return found

    def _metrics(self, found: Mapping[KeypointPair, Errors]) -> dict[str, float]:
        metrics = {'PCK': self._mean(found, ALL, self.align)}
        for viewpoint in VIEWPOINTS:
            score = self._mean(found, str(viewpoint), self.align)
            metrics[f'PCK_viewpoint{viewpoint}'] = score
        for align in self.aligns[1:]:
            metrics[f'PCK_{align}'] = self._mean(found, ALL, align)
        return metrics

    def _mean(self, found: Mapping[KeypointPair, Errors], group: str, align: Align) -> float:
        """Mean recall over the classes that have keypoints in the group; NaN without any."""
        scores = [
            recall([found[pair][align] for pair in self.groups[category, group]])
            for category in self.data.categories
        ]
        known = [score for score in scores if score is not None]
        return float(np.mean(known)) if known else float('nan')


_NORMS = {False: 'none', True: 'final'}


def groups_of(data: SPairData, pairs: int) -> dict[tuple[str, str], list[KeypointPair]]:
    """Pairs by class and viewpoint, and of all viewpoints of a class together, as drawn.

    Args:
        data: With sorted pairs.
        pairs: Of each group at most.
    """
    groups = {}
    for category in data.categories:
        mine = [pair for pair in data.pairs if pair.category == category]
        groups[category, ALL] = drawn(mine, pairs)
        for viewpoint in VIEWPOINTS:
            same = [pair for pair in mine if pair.viewpoint == viewpoint]
            groups[category, str(viewpoint)] = drawn(same, pairs)
    return groups
