"""Scores of public checkpoints that a right set-up gives: what `leaderboard.py calibrate` expects.

Values are the authors' own (`published_results.json` names the sources). Tolerances are ours
[our choice]: k-NN, low-shot and tests of published heads are deterministic up to the image decoder
and kernels; training adds the seed, and Cityscapes' values are read off a figure.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

_LINEAR = 'cityscapes/linear'

_OF_NEIGHBORS = (
    'all k-NN rows low by about .3: how images are resized and cut, or rounded',
    'low by more than 1: mean and deviation of the images, or the other encoder (--branch)',
)
_OF_LOWSHOT = (
    'off by about 5: C of the regression',
    'off by 1 or 2: images resized bicubic, features after the final norm, other lists of images',
)
_OF_HEADS = ('labels in another order, or how images are resized and cut',)
_OF_SEGMENTATION = (
    'half a point is the seed; more: the batch (16; --accumulate auto), the number of images, or '
    'the size of the images',
)


@dataclass(frozen=True)
class Fingerprint:
    """A public checkpoint, a protocol, and what it must give.

    Attributes:
        row: What the row is called in the table.
        title: Whose weights, and by what they are measured.
        files: Names that the checkpoint is published under, in small letters, with ``*``.
        arch: timm's name of its ViT.
        task: As ``leaderboard.py run --tasks`` has it.
        expected: Metric to the value and its tolerance, as records have them.
        families: What the reader calls such a file under another name; none where the tensors do
            not tell whose they are.
        head: Names of a file with a linear head that is tested on the checkpoint.
        tests: Whether a published classifier is tested and nothing is fitted.
        misses: What usually causes a miss: guesses, not measured.
    """

    row: str
    title: str
    files: tuple[str, ...]
    arch: str
    task: str
    expected: Mapping[str, tuple[float, float]]
    families: tuple[str, ...] = ()
    head: tuple[str, ...] = ()
    tests: bool = False
    misses: tuple[str, ...] = ()

    @property
    def data(self) -> str:
        """The data set, as ``--data-root`` names it."""
        return self.task.split('/')[0]


_DINO_BASE = ('dino_vitbase16_pretrain*', 'dino_vitb16*')
_IBOT_BASE = ('checkpoint_teacher*', 'ibot_vitb*', 'ibot_vit_base*')
_MOCA = ('moca*v1p0*', 'moca*v1.0*')
_BASE = 'vit_base_patch16'
_SIX = (
    *_OF_LOWSHOT,
    'a file of MOCA that is not v1.0',
)

FINGERPRINTS = (
    Fingerprint(
        row='1',
        title='DINO ViT-B/16, k-NN',
        files=_DINO_BASE,
        arch=_BASE,
        task='imagenet/knn-cls',
        expected={'top1': (76.1, 0.15)},
        misses=_OF_NEIGHBORS,
    ),
    Fingerprint(
        row='2',
        title='DINO ViT-S/16, k-NN',
        files=('dino_deitsmall16_pretrain*', 'dino_vits16*'),
        arch='vit_small_patch16',
        task='imagenet/knn-cls',
        expected={'top1': (74.5, 0.15)},
        misses=_OF_NEIGHBORS,
    ),
    Fingerprint(
        row='3',
        title='DINOv2 ViT-S/14, k-NN',
        files=('dinov2_vits14_pretrain*',),
        arch='vit_small_patch14_dinov2',
        task='imagenet/knn-cls',
        expected={'top1': (79.0, 0.2)},
        misses=(*_OF_NEIGHBORS, 'only this row: how positions are resampled from 518 pixels'),
    ),
    Fingerprint(
        row='4',
        title='iBOT ViT-B/16, k-NN',
        files=_IBOT_BASE,
        arch=_BASE,
        task='imagenet/knn-cls',
        expected={'top1': (77.1, 0.15)},
        families=('iBOT',),
        misses=(
            *_OF_NEIGHBORS,
            '77.3: the file is of random masks; checkpoint_teacher is a usual name',
        ),
    ),
    Fingerprint(
        row='5',
        title='MOCA-v1.0 ViT-B/16, k-NN',
        files=_MOCA,
        arch=_BASE,
        task='imagenet/knn',
        expected={'top1': (77.472, 0.1), 'top5': (89.686, 0.1)},
        families=('MOCA',),
        misses=(*_OF_NEIGHBORS, '77.2: the file is of MOCA-v0.9'),
    ),
    Fingerprint(
        row='6a',
        title='MOCA-v1.0 ViT-B/16, one image a class',
        files=_MOCA,
        arch=_BASE,
        task='imagenet/lowshot-1shot',
        expected={'top1': (55.23, 0.3)},
        families=('MOCA',),
        misses=_SIX,
    ),
    Fingerprint(
        row='6b',
        title='MOCA-v1.0 ViT-B/16, 1 % of the images',
        files=_MOCA,
        arch=_BASE,
        task='imagenet/lowshot-1pct',
        expected={'top1': (72.438, 0.15)},
        families=('MOCA',),
        misses=_SIX,
    ),
    Fingerprint(
        row='7',
        title='MAE ViT-B/16, its fine-tuned classifier',
        files=('mae_finetuned_vit_base*',),
        arch=_BASE,
        task='imagenet/finetune-mae',
        expected={'top1': (83.664, 0.02), 'top5': (96.53, 0.02), 'loss': (0.731, 0.02)},
        tests=True,
        misses=_OF_HEADS,
    ),
    Fingerprint(
        row='8',
        title='DINO ViT-B/16, its linear head',
        files=_DINO_BASE,
        arch=_BASE,
        task='imagenet/linear',
        expected={'top1': (78.2, 0.05)},
        head=('dino_vitbase16_linearweights*',),
        tests=True,
        misses=(*_OF_HEADS, 'far too low: channels of class token and mean are not interleaved'),
    ),
    Fingerprint(
        row='MAE',
        title='MAE ViT-B/16, linear probe on Cityscapes',
        files=('mae_pretrain_vit_base*',),
        arch=_BASE,
        task=_LINEAR,
        expected={'mIoU': (40.6, 1.0)},
        misses=_OF_SEGMENTATION,
    ),
    Fingerprint(
        row='DINO',
        title='DINO ViT-B/16, linear probe on Cityscapes',
        files=_DINO_BASE,
        arch=_BASE,
        task=_LINEAR,
        expected={'mIoU': (55.5, 1.0)},
        misses=_OF_SEGMENTATION,
    ),
    Fingerprint(
        row='iBOT',
        title='iBOT ViT-B/16, linear probe on Cityscapes',
        files=_IBOT_BASE,
        arch=_BASE,
        task=_LINEAR,
        expected={'mIoU': (59.3, 1.0)},
        families=('iBOT',),
        misses=_OF_SEGMENTATION,
    ),
)
"""The rows, those first that take minutes."""
