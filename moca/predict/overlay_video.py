"""The overlays of a video as a video."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import cv2

from moca.errors import UserError
from moca.records.whole_files import partial_of

OVERLAY_VIDEO = 'overlays.mp4'
"""Beside the overlays of a video's frames."""

CODECS = {'avc1': 'H.264', 'mp4v': 'MPEG-4 Part 2'}
"""Codecs of MP4 by the names that OpenCV knows, the best first [choice]. PyPI's OpenCV has no
encoder of H.264, which is what browsers play."""

UNKNOWN_RATE = 25.0
"""Frames per second where a video does not tell its own [choice]: that of PAL."""


def join_overlays(folder: Path, source: Path, count: int) -> list[str]:
    """Write the overlays of a video as `OVERLAY_VIDEO` beside them, as fast as the video.

    Args:
        folder: Of the overlays, ``000000.jpg`` and on; without them nothing is written.
        source: The video.
        count: How many frames it has.

    Returns:
        What a user has to know of the file, or of why there is none.

    Raises:
        UserError: The disk refuses it.
    """
    frames = [folder / f'{number:06d}.jpg' for number in range(count)]
    if not all(path.is_file() for path in frames):
        return []  # not drawn: --no-overlays, or a task that has none
    rate = frame_rate(source)
    codec = write_video(folder / OVERLAY_VIDEO, frames, rate or UNKNOWN_RATE)
    if codec is None:
        return ['no video of its overlays, since this OpenCV writes no MP4; the frames are there.']
    said = []
    if codec != (best := next(iter(CODECS.values()))):
        said.append(
            f'the video of its overlays is in {codec}, for want of {best} in this OpenCV: players '
            'show it, browsers may not.'
        )
    if rate is None:
        said.append(f'it does not tell its frames per second; its overlays have {UNKNOWN_RATE:g}.')
    return said


def frame_rate(path: Path) -> float | None:
    """The frames per second of a video; None if it does not tell."""
    video = cv2.VideoCapture(str(path))
    rate = float(video.get(cv2.CAP_PROP_FPS))
    video.release()
    return rate if 0 < rate < 1000 else None  # NaN is neither


def write_video(out: Path, frames: Sequence[Path], rate: float) -> str | None:
    """Write images as an MP4 that appears whole or not at all.

    Sides of an odd number of pixels lose the last one, which these codecs cannot hold.

    Args:
        out: The file, which ends in ``.mp4``.
        frames: Images of one size, in their order.
        rate: Frames per second.

    Returns:
        The codec; None if this OpenCV writes neither of `CODECS`, or a frame cannot be read. Then
        no file is written.

    Raises:
        UserError: The disk refuses it.
    """
    first = cv2.imread(str(frames[0]))
    if first is None:
        return None
    height, width = first.shape[:2]
    # OpenCV tells the format by the ending
    partial = partial_of(out).with_suffix('.mp4')
    for code, name in CODECS.items():
        with _quiet():
            writer = cv2.VideoWriter(
                str(partial), cv2.VideoWriter.fourcc(*code), rate, (width, height)
            )
        try:
            if not writer.isOpened():
                continue
            for path in frames:
                frame = cv2.imread(str(path))
                if frame is None or frame.shape != first.shape:
                    return None
                writer.write(frame)
            writer.release()
            if (kept := _length(partial)) != len(frames):  # OpenCV only warns of a full disk
                raise OSError(f'{kept} of {len(frames)} frames were kept')
            os.replace(partial, out)
            return name
        except OSError as error:
            raise UserError(f'{out}: cannot be written ({error}). Make room, or --out.') from error
        finally:
            writer.release()
            partial.unlink(missing_ok=True)
    return None


def _length(video: Path) -> int:
    """Frames of a video, 0 where it cannot be read."""
    with _quiet():
        reader = cv2.VideoCapture(str(video))
        try:
            return int(reader.get(cv2.CAP_PROP_FRAME_COUNT)) if reader.isOpened() else 0
        finally:
            reader.release()


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep to itself what OpenCV says of encoders that it lacks: others are tried."""
    before = cv2.getLogLevel()
    cv2.setLogLevel(0)
    try:
        yield
    finally:
        cv2.setLogLevel(before)
