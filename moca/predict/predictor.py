"""A model in one hand: images in, arrays with the names of classes out."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, overload

import numpy as np
import torch
from mmengine.dataset import Compose, default_collate, pseudo_collate
from torch import Tensor

from moca.engine.amp import preferred_dtype
from moca.errors import UserError
from moca.images.transforms import Pixels
from moca.predict.classifying import head_rate, image_input
from moca.predict.pixels import ImageLike, Several, as_pixels
from moca.predict.results import (
    Classification,
    Depth,
    Detections,
    Panoptic,
    PanopticSegment,
    Result,
    Segmentation,
)
from moca.predict.shown import listed
from moca.predict.trained import Trained, load_trained

INSTANCES = 1000
"""By which mmdet numbers segments: class + 1000 x instance (`mmdet.structures.INSTANCE_OFFSET`)."""


class Predictor:
    """A trained model of segmentation, detection, panoptic segmentation, depth or image classes.

    Args:
        trained: The model.
        amp: Whether to compute in half precision: bfloat16, or float16 on older GPUs.

    Attributes:
        trained: The model, its config and its classes.
    """

    def __init__(self, trained: Trained, amp: bool = False) -> None:
        self.trained = trained
        self._precision = getattr(torch, preferred_dtype()) if amp else None
        self._rate = head_rate(trained.cfg, trained.checkpoint)
        self._steps: Any = None
        if 'pipeline' in trained.dataset:
            with trained.scope():
                self._steps = Compose([s for s in trained.dataset['pipeline'] if not _reads(s)])

    def __repr__(self) -> str:
        trained = self.trained
        return listed(
            self,
            task=self.task,
            classes=self.classes or None,
            checkpoint=trained.checkpoint,
            sees=trained.seen,
            device=next(trained.model.parameters()).device,
        )

    @property
    def task(self) -> str:
        """What is predicted: segmentation, detection, panoptic, depth or image."""
        return self.trained.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; none of depth."""
        return self.trained.classes

    @overload
    def predict(self, images: ImageLike, batch: int = 1) -> Result: ...

    @overload
    def predict(self, images: Several, batch: int = 1) -> list[Result]: ...

    def predict(self, images: ImageLike | Several, batch: int = 1) -> Result | list[Result]:
        """Predict an image, or several.

        Args:
            images: A file, an array or an image of Pillow, or a list of them. Arrays are RGB
                ``[H, W, 3]`` uint8; gray, alpha and more bits are taken as they are from files
                (`as_pixels`). They may be of different sizes.
            batch: How many images go through the network together. Those of a batch that are of
                different sizes do so one size after the other.

        Returns:
            A `Segmentation`, `Detections`, `Panoptic`, `Depth` or `Classification`, at the size of
            the image; a list of them for a list.

        Raises:
            UserError: An image cannot be read.
        """
        if not isinstance(images, list | tuple):
            return self._predict([as_pixels(images)])[0]
        if batch < 1:
            raise UserError(f'batch={batch}: give at least 1 image.')
        found: list[Result] = []
        for start in range(0, len(images), batch):
            found += self._predict([as_pixels(image) for image in images[start : start + batch]])
        return found

    def _predict(self, images: Sequence[Pixels]) -> list[Result]:
        """Predict a batch."""
        device = next(self.trained.model.parameters()).device
        inputs = [self._input(image) for image in images]
        groups: dict[str, list[int]] = {}
        for place, sample in enumerate(inputs):
            groups.setdefault(_sizes(sample['inputs']), []).append(place)
        results: dict[int, Result] = {}
        collate = default_collate if self._steps is None else pseudo_collate
        half = torch.autocast(device.type, self._precision, self._precision is not None)
        with self.trained.scope(), torch.no_grad(), half:
            for places in groups.values():
                found = self.trained.model.test_step(collate([inputs[place] for place in places]))
                for place, sample in zip(places, found, strict=True):
                    results[place] = self._result(sample, images[place])
        return [results[place] for place in range(len(images))]

    def _input(self, image: Pixels) -> dict[str, Any]:
        if self._steps is None:
            return {'inputs': image_input(image, self.trained.dataset)}
        bgr = np.ascontiguousarray(image[..., ::-1])
        size = image.shape[:2]
        about = dict(img_path=None, img_id=0, img_shape=size, ori_shape=size)
        with self.trained.scope():
            sample: dict[str, Any] = self._steps(dict(about, img=bgr))
        return sample

    def _result(self, sample: Any, image: Pixels) -> Result:
        classes, size = self.trained.classes, image.shape[:2]
        if self.task == 'segmentation':
            return Segmentation(_fitted(_numpy(sample.pred_sem_seg.data[0]), size), classes)
        if self.task == 'depth':
            meters = _numpy(sample.pred_depth_map.data[0].float())
            return Depth(_fitted(meters, size))
        if self.task == 'panoptic':
            ids = _numpy(sample.pred_panoptic_seg.sem_seg[0])
            return panoptic_of(ids, classes, self.trained.things)
        if self.task == 'detection':
            return detections_of(sample.pred_instances, classes)
        head = 0 if self._rate is None else list(sample['rates']).index(self._rate)
        scores = _numpy(sample['logits'][head].float().softmax(0))
        return Classification(int(scores.argmax()), scores, classes)


def load(
    source: str | Path,
    config: str | Path | None = None,
    *,
    arch: str | None = None,
    device: str | torch.device | None = None,
    tta: bool = False,
    window: int | None = None,
    amp: bool = False,
) -> Predictor:
    """Load what a run has trained, to predict with it; its data need not be there.

    Args:
        source: The folder of a run of ``tools/train.py``, whose newest intact checkpoint is taken;
            or a checkpoint; or, with `config`, a published mask transformer (EoMT).
        config: The config, where it is not in the folder or the checkpoint.
        arch: Architecture of a published file, where the config has another one: ``auto`` for that
            of the file.
        device: To run on, such as ``cuda:1``; a GPU by default if there is one.
        tta: Average over the scales and flips of the config's ``tta``.
        window: Side in pixels of the sliding window, in the place of the config's.
        amp: Whether to compute in half precision: bfloat16, or float16 on older GPUs.

    Raises:
        UserError: A checkpoint or config is missing, they do not belong together, or an option is
            none of this model.

    Example:
        >>> import moca, numpy
        >>> model = moca.load('work_dirs/probe')  # doctest: +SKIP
        >>> model.predict('street.jpg').classes[:2]  # doctest: +SKIP
        ('road', 'sidewalk')
    """
    how: dict[str, Any] = dict(arch=arch, device=device, tta=tta, window=window)
    return Predictor(load_trained(source, config, **how), amp)


def _reads(step: dict[str, Any]) -> bool:
    """Whether a step reads the image, which is read already.

    Raises:
        UserError: It reads another kind of image.
    """
    if not str(step['type']).endswith(('LoadReadableImage', 'LoadImageFromFile')):
        return False
    if step.get('color_type', 'color') not in ('color', 'color_ignore_orientation'):
        raise UserError(
            f'{step["type"]} with color_type={step["color_type"]!r}: predictions are of RGB images.'
        )
    return True


def _sizes(inputs: Any) -> str:
    """What is the same for inputs that can be stacked; several sizes each with augmentation."""
    each = inputs if isinstance(inputs, list | tuple) else [inputs]
    return str([tuple(part.shape) for part in each])


def _numpy(values: Tensor) -> Any:
    return values.cpu().numpy()


def _fitted(values: Any, size: Sequence[int]) -> Any:
    """Stretch a map to the image, of data sets that test at another size; no value is new."""
    if values.shape == tuple(size):
        return values
    rows, columns = (
        np.arange(wanted) * own // wanted for wanted, own in zip(size, values.shape, strict=True)
    )
    return values[rows[:, None], columns[None, :]]


def detections_of(found: Any, classes: tuple[str, ...]) -> Detections:
    """The objects of mmdet's instances, the surest first."""
    order = found.scores.argsort(descending=True, stable=True)
    found = found[order]
    masks = None
    if 'masks' in found:
        masks = np.asarray(found.masks.cpu() if isinstance(found.masks, Tensor) else found.masks)
        masks = masks.astype(bool)
    return Detections(
        boxes=_numpy(found.bboxes.float()),
        labels=_numpy(found.labels.long()),
        scores=_numpy(found.scores.float()),
        masks=masks,
        classes=classes,
    )


def panoptic_of(numbers: Any, classes: tuple[str, ...], things: int) -> Panoptic:
    """The segments of mmdet's map ``[H, W]`` of class + 1000 x instance; larger classes are void.

    Args:
        numbers: The map.
        classes: Names, things first.
        things: How many are things.
    """
    ids = np.zeros(numbers.shape, np.int32)
    segments: list[PanopticSegment] = []
    for number in np.unique(numbers).tolist():
        label = number % INSTANCES
        if label < len(classes):
            segments.append(PanopticSegment(len(segments) + 1, label, label < things))
            ids[numbers == number] = segments[-1].id
    return Panoptic(ids, tuple(segments), classes)
