"""Video object segmentation by propagated labels, nothing trained: DAVIS 2017."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from mmengine.logging import print_log
from mmengine.registry import TASK_UTILS
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count
from moca.errors import UserError
from moca.evaluation.dense.propagation import labels_on_grid, propagate_video
from moca.evaluation.dense.video_data import (
    Video,
    read_davis,
    read_frame,
    read_labels,
    without_void,
)
from moca.evaluation.dense.video_frames import (
    PRESETS,
    Pixels,
    VideoPreset,
    deviates,
    frame_tensor,
    label_map,
    network_size,
    preset_std,
)
from moca.evaluation.dense.video_metric import VideoScores, davis_metrics, score_video
from moca.evaluation.features import check_finite, patch_map
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result

FIRST_MASK = '_first_mask'
"""Ends the names of the baseline's metrics: the first mask, kept through the video."""


def chosen_preset(name: str, short_side: int | None) -> VideoPreset:
    """A preset by its name, with another short side if one is given.

    Raises:
        UserError: There is no such preset, or the side is no number of pixels.
    """
    if name not in PRESETS:
        raise UserError(f'preset {name!r}: give one of {", ".join(PRESETS)}.')
    if short_side is None:
        return PRESETS[name]
    return replace(PRESETS[name], short_side=check_count(short_side, 'short_side'))


def video_size(frame: Pixels, model: PlainViT, preset: VideoPreset, name: str) -> tuple[int, int]:
    """Height and width in pixels at which a backbone sees a video.

    Raises:
        UserError: No patch fits.
    """
    size = network_size(frame.shape[0], frame.shape[1], model.patch_size, preset)
    if not all(size):
        raise UserError(
            f'{name}: frames of {frame.shape[1]} x {frame.shape[0]} pixels at a short side of '
            f'{preset.short_side} leave no patch of {model.patch_size} (DINO cuts the long side to '
            'a multiple of 64). Give a larger evaluation.short_side.'
        )
    return size


def video_features(
    model: PlainViT,
    frames: Sequence[Path],
    size: tuple[int, int],
    preset: VideoPreset,
    batch_size: int = 1,
) -> Iterator[Tensor]:
    """Patch features ``[C, h, w]`` of each frame, after the final norm.

    Args:
        model: In eval mode.
        frames: Of one video, in order.
        size: Height and width in pixels at which the backbone sees them.
        preset: How they are resized and normalized.
        batch_size: Frames at a time.
    """
    device = next(model.parameters()).device
    std = preset_std(model.mean, model.std, preset)
    for start in range(0, len(frames), batch_size):
        part = [read_frame(path) for path in frames[start : start + batch_size]]
        images = [frame_tensor(frame, size, model.mean, std, preset) for frame in part]
        with torch.no_grad():
            found = patch_map(model, torch.stack(images).to(device))
        yield from check_finite(found, str(frames[start]))


def propagated(
    model: PlainViT, frames: Sequence[Path], first: Pixels, preset: VideoPreset, batch_size: int = 1
) -> Iterator[Pixels]:
    """Label maps ``[H, W]`` of all frames of a video but the first.

    Args:
        model: In eval mode.
        frames: Of one video, in order.
        first: Label map of the first frame, 255 where void.
        preset: Size, neighborhood, temperature.
        batch_size: Frames at a time.

    Raises:
        UserError: A frame cannot be decoded, or no patch fits.
    """
    size = video_size(first, model, preset, str(frames[0].parent))
    grid = size[0] // model.patch_size, size[1] // model.patch_size
    labels = labels_on_grid(without_void(first), grid, preset.nearest)
    labels = labels.to(next(model.parameters()).device)
    features = video_features(model, frames, size, preset, batch_size)
    for soft in propagate_video(features, labels, preset.propagation):
        yield label_map(soft, size, (first.shape[0], first.shape[1]), preset)


@TASK_UTILS.register_module()
class VideoPropagation(Evaluation):
    """Segment videos by the label map of their first frame.

    Metrics in percent, means over objects: ``J`` (IoU), ``F`` (boundaries), their mean ``J&F``,
    and recall and decay of both; the same three of the first mask, kept through the video, end in
    ``_first_mask``.

    Args:
        data_root: The folder ``DAVIS``.
        split: Of its ``ImageSets/2017``.
        preset: One of :data:`moca.evaluation.dense.video_frames.PRESETS`. Scores of different
            presets are not comparable.
        short_side: Of the frames in pixels, for patches of 16; None as the preset says.

    Raises:
        UserError: A setting is out of its range.
    """

    counted = 'videos'

    def __init__(
        self,
        data_root: str,
        *,
        split: str = 'val',
        preset: str = 'dino',
        short_side: int | None = None,
    ) -> None:
        self.data_root, self.split, self.preset_name = data_root, split, preset
        self.preset = chosen_preset(preset, short_side)

    def prepare(self) -> None:
        """List the videos.

        Raises:
            UserError: A file is missing or wrong.
        """
        self.videos = read_davis(self.data_root, self.split, 'evaluation.data_root')
        self.train_images, self.val_images = 0, len(self.videos)

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Propagate through every video, and measure."""
        if deviates(model.patch_size, self.preset):
            print_log(
                f'{self.preset_name}: {self.preset.short_side} pixels are not whole patches of '
                f'{model.patch_size}; both sides are rounded down to them, which is no size of the '
                'published protocol: its scores are not comparable.',
                'current',
                level=30,
            )
        scores, kept = [], []
        for video in run.progress(self.videos, 'videos'):
            ours, baseline = self._score(model, video, run.batch_size)
            scores.append(ours)
            kept.append(baseline)
        metrics = davis_metrics(scores)
        baseline_metrics = davis_metrics(kept)
        for name in ('J&F', 'J', 'F'):
            metrics[name + FIRST_MASK] = baseline_metrics[name]
        return Result(metrics=metrics, chosen={}, settings=self._settings(model, scores))

    def _score(
        self, model: PlainViT, video: Video, batch_size: int
    ) -> tuple[VideoScores, VideoScores]:
        """J and F of propagated labels, and of the first mask kept."""
        truth = [read_labels(path) for path in video.masks]
        first = without_void(truth[0])
        found = [first, *propagated(model, video.frames, first, self.preset, batch_size)]
        ours = score_video(truth, found, video.name)
        return ours, score_video(truth, [first] * len(truth), video.name)

    def _settings(self, model: PlainViT, scores: Sequence[VideoScores]) -> dict[str, object]:
        how = self.preset.propagation
        first = read_frame(self.videos[0].frames[0])
        return {
            'preset': self.preset_name,
            'short_side': self.preset.short_side,
            'size_of_first_video': list(video_size(first, model, self.preset, '')),
            'size_deviates': deviates(model.patch_size, self.preset),
            'std': list(preset_std(model.mean, model.std, self.preset)),
            'temperature': how.temperature,
            'neighborhood': how.shape,
            'radius': how.radius,
            'top_k': how.top_k,
            'last_frames': how.last_frames,
            'videos': len(self.videos),
            'objects': sum(len(video.regions) for video in scores),
            'frames': sum(len(video) for video in self.videos),
        }
