"""Videos with a label map for each frame, in the layout of DAVIS 2017."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.evaluation.dense.video_metric import VOID, object_count
from moca.images.image_io import read_pixels
from moca.images.inspection import inspect
from moca.segmentation.label_files import LabelFault, read_values

LAYOUT = (
    'JPEGImages/480p/<video>/*.jpg, Annotations/480p/<video>/*.png and ImageSets/2017/<split>.txt'
)
"""Of the data set's folder, as its archive has it."""

MEASURED_FROM = 3
"""Frames that a video needs for one that counts: the first and the last do not."""


@dataclass(frozen=True)
class Video:
    """A video.

    Attributes:
        name: Of its folder.
        frames: Images in order.
        masks: The label map of each frame: 0 is background, n the n-th object, 255 void.
    """

    name: str
    frames: tuple[Path, ...]
    masks: tuple[Path, ...]

    def __len__(self) -> int:
        return len(self.frames)


def read_davis(root: str | Path, split: str, field: str) -> list[Video]:
    """List the videos of a split and look at sizes and label maps.

    Videos without a frame that counts, or without an object in the first one, are left out, which
    is said in the log; so are objects that appear later only.

    Args:
        root: The folder ``DAVIS``.
        split: ``val`` or ``train``.
        field: What to call the folder in messages.

    Raises:
        UserError: The folder is laid out otherwise, a file is missing or wrong, or no video is
            left.
    """
    listed = Path(root) / 'ImageSets' / '2017' / f'{split}.txt'
    try:
        names = listed.read_text().split()
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f'{field}={root}: no list of videos there (looked for {listed}). Give the folder with '
            f'{LAYOUT}.'
        ) from error
    if not names:
        raise UserError(f'{listed}: the list of videos is empty. Unpack DAVIS anew.')
    videos = [_read_video(Path(root), name, field) for name in dict.fromkeys(names)]
    reasons = {video.name: _reason_to_leave(video) for video in videos}
    for name, reason in reasons.items():
        if reason:
            print_log(f'{field}: {name} is left out: {reason}.', 'current', level=30)
    kept = [video for video in videos if not reasons[video.name]]
    if not kept:
        raise UserError(
            f'{field}={root}: none of {len(videos)} videos can be measured '
            f'({videos[0].name}: {reasons[videos[0].name]}). Give videos of {MEASURED_FROM} frames '
            'or more, with objects in the first one.'
        )
    for video in kept:
        if late := _late_objects(video):
            print_log(
                f'{field}: {video.name}: objects {", ".join(map(str, late))} appear after the '
                'first frame and count as background.',
                'current',
                level=30,
            )
    return kept


def _read_video(root: Path, name: str, field: str) -> Video:
    images, labels = (root / kind / '480p' / name for kind in ('JPEGImages', 'Annotations'))
    frames = tuple(sorted(images.glob('*.jpg')))
    if not frames:
        raise UserError(
            f'{field}={root}: no frame of {name} (looked for {images}/*.jpg). Give the folder with '
            f'{LAYOUT}.'
        )
    masks = tuple(labels / f'{frame.stem}.png' for frame in frames)
    missing = [mask for mask in masks if not mask.is_file()]
    if missing:
        raise UserError(
            f'{missing[0]}: no such file; {len(missing)} of {len(frames)} frames of {name} have no '
            'label map. Give a split whose frames all have one, such as val.'
        )
    for frame, mask in zip(frames, masks, strict=True):
        sizes = inspect(frame, decode=False).size, inspect(mask, decode=False).size
        for path, size in zip((frame, mask), sizes, strict=True):
            if 0 in size:
                raise UserError(f'{path}: a broken image. Unpack DAVIS anew.')
        if sizes[0] != sizes[1]:
            raise UserError(
                f'{mask}: {sizes[1][1]} x {sizes[1][0]} pixels, but its frame {frame} has '
                f'{sizes[0][1]} x {sizes[0][0]}. Unpack DAVIS anew.'
            )
    return Video(name, frames, masks)


def _reason_to_leave(video: Video) -> str:
    """Why a video cannot be measured, or nothing."""
    if len(video) < MEASURED_FROM:
        return f'of {len(video)} frames, none counts (the first and the last never do)'
    if not object_count(read_labels(video.masks[0])):
        return f'no object in {video.masks[0].name}'
    return ''


def _late_objects(video: Video) -> list[int]:
    """Numbers in later label maps that are above those of the first one."""
    known = object_count(read_labels(video.masks[0]))
    seen = np.zeros(VOID + 1, bool)
    for path in video.masks[1:]:
        seen |= np.bincount(read_labels(path).ravel(), minlength=VOID + 1) > 0
    return [int(number) for number in np.flatnonzero(seen[:VOID]) if number > known]


def read_labels(path: Path) -> NDArray[np.uint8]:
    """A label map ``[H, W]``: of a palette, the indices.

    Raises:
        UserError: It cannot be read, or is no label map.
    """
    try:
        values = read_values(path)
    except LabelFault as fault:
        raise UserError(f'{path}: {fault}.') from fault
    if values.ndim != 2 or values.dtype.kind not in 'ub' or values.max() > VOID:
        raise UserError(
            f'{path}: {values.dtype} values of shape {list(values.shape)}, not a label map. Write '
            'one channel: 0 background, 1 the first object, 255 void.'
        )
    return np.ascontiguousarray(values, dtype=np.uint8)


def read_frame(path: Path) -> NDArray[np.uint8]:
    """A frame, RGB ``[H, W, 3]``.

    Raises:
        UserError: It cannot be decoded.
    """
    return read_pixels(path)


def without_void(labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A label map with background in place of void, ``[H, W]``."""
    return np.where(labels == VOID, 0, labels).astype(np.uint8)
