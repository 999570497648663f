"""Tiny data sets in the official layouts of DAVIS 2017, SPair-71k, Pascal VOC and COCO."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]


def texture(height: int, width: int, seed: int) -> Pixels:
    """Smooth noise ``[height, width, 3]``."""
    small = np.random.default_rng(seed).integers(0, 256, (height // 8 + 1, width // 8 + 1, 3))
    image = Image.fromarray(small.astype(np.uint8))
    return np.array(image.resize((width, height), Image.Resampling.BICUBIC))


def save(path: Path, image: Pixels, palette: bool = False) -> None:
    """Write an image, or a label map with a palette, and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(image)
    if palette:
        picture = picture.convert('P')
        picture.putdata(image.flatten().tolist())
        picture.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    picture.save(path)


def write_video(root: Path, name: str, frames: list[Pixels], masks: list[Pixels]) -> None:
    """Write a video of DAVIS, whose list is written by `write_davis`."""
    for time, (frame, mask) in enumerate(zip(frames, masks, strict=True)):
        save(root / f'JPEGImages/480p/{name}/{time:05}.jpg', frame)
        save(root / f'Annotations/480p/{name}/{time:05}.png', mask, palette=True)


def write_davis(root: Path, videos: dict[str, tuple[list[Pixels], list[Pixels]]]) -> Path:
    """Write videos, each frames and masks, in the layout of DAVIS 2017."""
    for name, (frames, masks) in videos.items():
        write_video(root, name, frames, masks)
    listed = root / 'ImageSets/2017/val.txt'
    listed.parent.mkdir(parents=True)
    listed.write_text('\n'.join(videos) + '\n')
    return root


def moving_video(seed: int, count: int = 4) -> tuple[list[Pixels], list[Pixels]]:
    """Frames of 64 x 96 with a textured square that moves, and their masks."""
    background, thing = texture(64, 96, seed), texture(24, 24, seed + 1)
    frames, masks = [], []
    for time in range(count):
        frame, mask = background.copy(), np.zeros((64, 96), np.uint8)
        left = 8 + 12 * time
        frame[20:44, left : left + 24] = thing
        mask[20:44, left : left + 24] = 1
        frames.append(frame)
        masks.append(mask)
    return frames, masks


def write_spair(root: Path, images: int = 2, mirrored: bool = True) -> Path:
    """Write two classes of photos and mirrored ones, with keypoints in both, as SPair-71k."""
    number = 0
    for place, category in enumerate(('cat', 'bus')):
        for which in range(images):
            picture = texture(60, 80, 10 * place + which)
            points = {'0': [10, 12], '1': [60, 20], '2': [30, 50], '3': None}
            write_spair_image(root, category, f'p{which}', picture, points)
            flipped = {k: v and [79 - v[0], v[1]] for k, v in points.items()}
            other = picture[:, ::-1] if mirrored else picture
            write_spair_image(root, category, f'm{which}', other, flipped if mirrored else points)
            pair = dict(
                filename=f'{number:06}-p{which}-m{which}:{category}',
                category=category,
                viewpoint_variation=which % 3,
                src_bndbox=[5, 5, 75, 55],
                trg_bndbox=[5, 5, 75, 55],
                trg_imsize=[80, 60, 3],
            )
            path = root / f'PairAnnotation/test/{pair["filename"].replace(":", "_")}.json'
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(pair))
            number += 1
    return root


def write_spair_image(
    root: Path, category: str, name: str, picture: Pixels, points: dict[str, Any]
) -> None:
    """Write an image of SPair-71k and its annotation."""
    save(root / f'JPEGImages/{category}/{name}.jpg', picture)
    path = root / f'ImageAnnotation/{category}/{name}.json'
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(dict(kps=points)))


def write_voc_boxes(root: Path, boxes: dict[str, list[list[int]]]) -> Path:
    """Write images of 48 x 64 and boxes (xmin, ymin, xmax, ymax) as a year of Pascal VOC."""
    for number, (name, rows) in enumerate(boxes.items()):
        save(root / f'JPEGImages/{name}.jpg', texture(48, 64, number))
        sides = ('xmin', 'ymin', 'xmax', 'ymax')
        objects = ''.join(
            '<object><difficult>1</difficult><bndbox>'
            + ''.join(f'<{s}>{v}</{s}>' for s, v in zip(sides, row, strict=True))
            + '</bndbox></object>'
            for row in rows
        )
        path = root / f'Annotations/{name}.xml'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f'<annotation>{objects}</annotation>')
    listed = root / 'ImageSets/Main/trainval.txt'
    listed.parent.mkdir(parents=True)
    listed.write_text('\n'.join(boxes) + '\n')
    return root


def write_coco_boxes(root: Path, split: str = 'train2014') -> Path:
    """Write three images with boxes as COCO, one of them a crowd alone, and a list of two."""
    images, annotations = [], []
    for number in range(3):
        name = f'COCO_{split}_{number:012}.jpg'
        save(root / split / name, texture(48, 64, number))
        images.append(dict(id=number, file_name=name, height=48, width=64))
        annotations.append(
            dict(id=number, image_id=number, bbox=[8.4, 8.6, 30, 20], iscrowd=int(number == 2))
        )
    path = root / f'annotations/instances_{split}.json'
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps(dict(images=images, annotations=annotations, categories=[])))
    names = [f'{split}/{image["file_name"]}' for image in images[:2]]
    (root / 'coco_20k_filenames.txt').write_text('\n'.join(names) + '\n')
    return root
