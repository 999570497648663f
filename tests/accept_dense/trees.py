"""Small data sets of photos with known answers, in official layouts.

Objects are cut out of COCO's photos along their masks. Clips move them over other photos; pairs are
photos and their mirror images, so that positions mislead.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pycocotools.coco import COCO

from tests.evaluation.dense.trees import write_davis, write_spair_image

Pixels = NDArray[np.uint8]

PATCH = 14
"""Pixels, of the backbone that is measured."""

FRAME = (224, 448)
"""Height and width of clips in pixels, whole patches that the preset `dino` does not resize."""

SIDE = 24 * PATCH
"""Longer side of the photos of pairs in pixels, so that none is resized."""

SPEED = (11, 18)
"""Pixels a frame, about a patch. What moves less is found where it was."""

_LARGE = (0.04, 0.35)  # share of its photo that an object takes
_HEIGHT, _WIDTH = 96, 128  # of objects in clips at most, in pixels


@dataclass(frozen=True)
class CutOut:
    """A photo RGB ``[H, W, 3]``, the mask ``[H, W]`` of one of its objects, and its kind."""

    photo: Pixels
    mask: NDArray[np.bool_]
    category: str


def cut_outs(data: Path, split: str = 'train2017') -> list[CutOut]:
    """The largest object of each photo of COCO, where it has the right size, by numbers."""
    coco = COCO(data / f'annotations/instances_{split}.json')
    found = []
    for about in coco.loadImgs(sorted(coco.getImgIds())):
        objects = coco.loadAnns(coco.getAnnIds(imgIds=about['id'], iscrowd=False))
        largest: dict[str, Any] | None = max(objects, key=lambda one: one['area'], default=None)
        share = 0 if largest is None else largest['area'] / (about['height'] * about['width'])
        if largest is not None and _LARGE[0] <= share <= _LARGE[1]:
            with Image.open(data / split / about['file_name']) as file:
                photo = np.array(file.convert('RGB'))
            name = coco.loadCats(largest['category_id'])[0]['supercategory']
            found.append(CutOut(photo, coco.annToMask(largest) > 0, name))
    return found


def write_clips(root: Path, objects: list[CutOut], clips: int = 8, frames: int = 10) -> Path:
    """Write clips as DAVIS: an object crosses another photo, about a patch a frame."""
    random = np.random.default_rng(0)
    videos = {}
    for number in range(clips):
        thing, place = objects[number], objects[-1 - number]
        background = cv2.resize(place.photo, FRAME[::-1], interpolation=cv2.INTER_AREA)
        videos[f'clip_{number}'] = _moved(_trimmed(thing), background, frames, random)
    return write_davis(root, videos)


def _trimmed(thing: CutOut) -> tuple[Pixels, NDArray[np.bool_]]:
    """An object and its mask within its box, made smaller to fit into clips."""
    rows, columns = (np.flatnonzero(thing.mask.any(axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    photo, mask = thing.photo[box], thing.mask[box].astype(np.uint8)
    scale = min(_HEIGHT / mask.shape[0], _WIDTH / mask.shape[1])
    size = max(round(mask.shape[1] * scale), 1), max(round(mask.shape[0] * scale), 1)
    small = cv2.resize(photo, size, interpolation=cv2.INTER_AREA)
    return small, cv2.resize(mask, size, interpolation=cv2.INTER_NEAREST) > 0


def _moved(
    thing: tuple[Pixels, NDArray[np.bool_]],
    background: Pixels,
    frames: int,
    random: np.random.Generator,
) -> tuple[list[Pixels], list[Pixels]]:
    picture, mask = thing
    height, width = mask.shape
    speed = random.uniform(*SPEED)
    left = random.uniform(0, FRAME[1] - width - speed * (frames - 1))
    top, bottom = random.uniform(0, FRAME[0] - height, 2)
    times = np.arange(frames)
    columns = np.round(left + speed * times).astype(int)
    if random.random() < 0.5:
        columns = columns[::-1]
    steps = np.clip((bottom - top) / (frames - 1), -SPEED[0] / 2, SPEED[0] / 2)
    rows = np.round(top + steps * times).astype(int)
    images: list[Pixels] = []
    masks: list[Pixels] = []
    for row, column in zip(rows, columns, strict=True):
        image, truth = background.copy(), np.zeros_like(background[..., 0])
        part = slice(row, row + height), slice(column, column + width)
        image[part][mask] = picture[mask]
        truth[part][mask] = 1
        images.append(image)
        masks.append(truth)
    return images, masks


def write_still(root: Path, thing: CutOut, frames: int = 10) -> Path:
    """Write one clip as DAVIS in which nothing moves; the mask is the left half, whole patches."""
    photo = cv2.resize(thing.photo, FRAME[::-1], interpolation=cv2.INTER_AREA)
    mask = np.zeros(FRAME, np.uint8)
    mask[:, : FRAME[1] // 2] = 1
    return write_davis(root, {'still': ([photo] * frames, [mask] * frames)})


def write_pairs(root: Path, objects: list[CutOut], how: str, images: int = 12) -> Path:
    """Write pairs of photos of two kinds of things as SPair-71k.

    Args:
        root: The folder.
        objects: Of which the two most frequent kinds are taken, as classes.
        how: What the second photo is: ``mirrored`` and slightly warped, off the middle, or the
            ``same``, with keypoints anywhere; ``cells``: the same, keypoints at centers of patches.
        images: Of a class at most.
    """
    random = np.random.default_rng(0)
    by_class = defaultdict(list)
    for thing in objects:
        by_class[thing.category].append(thing)
    for category in sorted(by_class, key=lambda name: -len(by_class[name]))[:2]:
        for number, thing in enumerate(by_class[category][:images]):
            _write_pair(root, category.replace(' ', ''), number, thing, how, random)
    return root


def _write_pair(
    root: Path, category: str, number: int, thing: CutOut, how: str, random: np.random.Generator
) -> None:
    scale = SIDE / max(thing.mask.shape)
    size = round(thing.mask.shape[1] * scale), round(thing.mask.shape[0] * scale)
    photo = cv2.resize(thing.photo, size, interpolation=cv2.INTER_AREA)
    mask = cv2.resize(thing.mask.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    move = np.eye(2, 3)
    if how == 'mirrored':
        middle = (size[0] / 2, size[1] / 2)
        move = cv2.getRotationMatrix2D(middle, random.uniform(-8, 8), random.uniform(0.95, 1.05))
        move = move @ np.array([[-1, 0, size[0] - 1], [0, 1, 0], [0, 0, 1]])
        other = cv2.warpAffine(photo, move, size, borderMode=cv2.BORDER_REFLECT)
        warped = cv2.warpAffine(mask, move, size, flags=cv2.INTER_NEAREST)
        mask[:, abs(np.arange(size[0]) - middle[0]) < 0.1 * size[0]] = 0
    else:
        other, warped = photo, mask
    if how == 'cells':
        centers = np.zeros_like(mask)
        centers[PATCH // 2 :: PATCH, PATCH // 2 :: PATCH] = 1
        mask = mask * centers
    rows, columns = np.nonzero(mask)
    chosen = random.permutation(len(rows))[:15]
    points = np.stack([columns[chosen], rows[chosen]], axis=1)
    moved = points @ move[:, :2].T + move[:, 2]
    for name, picture, theirs in (('a', photo, points), ('b', other, moved)):
        kps = {str(place): xy for place, xy in enumerate(theirs.tolist())}
        write_spair_image(root, category, f'{name}{number:02}', picture, kps)
    (x1, y1), (x2, y2) = (np.argwhere(warped.T)[:, None].min(0)[0], np.argwhere(warped.T).max(0))
    pair = dict(
        filename=f'{number:06}-a{number:02}-b{number:02}:{category}',
        category=category,
        viewpoint_variation=number % 3,
        src_bndbox=[0, 0, *size],
        trg_bndbox=[int(x1), int(y1), int(x2) + 1, int(y2) + 1],
        trg_imsize=[*size, 3],
    )
    path = root / f'PairAnnotation/test/{number:06}-{category}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(pair))


def link_labeled(data: Path, root: Path) -> Path:
    """Lay out COCO's photos that have semantic label maps, by links."""
    for split in ('train2017', 'val2017'):
        for label in sorted((data / 'semantic' / split).glob('*.png')):
            _link(label, root / 'semantic' / split / label.name)
            name = f'{label.stem}.jpg'
            _link(data / split / name, root / split / name)
    return root


def link_ade20k(data: Path, root: Path) -> Path:
    """Lay out a few images of ADE20K, all but the first for training, by links."""
    for number, image in enumerate(sorted((data / 'images').glob('*.jpg'))):
        split = 'training' if number else 'validation'
        label = data / f'annotations/{image.stem}.png'
        _link(image, root / 'images' / split / image.name)
        _link(label, root / 'annotations' / split / label.name)
    return root


def _link(path: Path, at: Path) -> None:
    at.parent.mkdir(parents=True, exist_ok=True)
    at.symlink_to(path.resolve())
