"""Images of patch features at several moments of a training, kept for `progress`."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import torch
from mmengine.config import Config
from mmengine.dist import master_only
from mmengine.registry import HOOKS
from mmengine.visualization import LocalVisBackend
from numpy.typing import NDArray

from moca.engine.hooks import set_hook
from moca.errors import UserError
from moca.evaluation.components import colors, principal_scores, turned_onto
from moca.evaluation.features import image_size
from moca.evaluation.labeled import center, normalize, read_image
from moca.images.files import evenly_spread, list_images
from moca.images.image_io import CorruptImage
from moca.pretrain.monitors.base import (
    EncoderMonitor,
    encoder_of,
    evaluating,
    normalization_of,
    patch_features,
    precision_of,
)
from moca.records.run_logs import pieces_of
from moca.records.whole_files import write_atomically

Image = NDArray[np.uint8]

# Small images are enlarged to at least this many pixels, patch by patch.
SHOWN_PIXELS = 128
# How many images that cannot be decoded are passed over.
_REPLACEMENTS = 8


@dataclass(frozen=True)
class Moment:
    """The features of some images at one moment of a training.

    Attributes:
        epoch: How many were over.
        branch: ``teacher`` or ``student``.
        images: uint8 RGB ``[P, H, W, 3]``.
        scores: fp32 ``[P, h, w, 3]``, see :mod:`moca.evaluation.components`; turned onto the
            moment before.
    """

    epoch: int
    branch: str
    images: Image
    scores: NDArray[np.float32]

    def colors(self) -> list[NDArray[np.float32]]:
        """The features of each image as colors, ``[h, w, 3]`` in 0..1."""
        count, height, width, _ = self.scores.shape
        flat = torch.from_numpy(self.scores).flatten(0, 2)
        return colors(flat, [(height, width)] * count)

    def strip(self) -> Image:
        """The images in a row above their colors."""
        height, width = self.images.shape[1:3]
        scale = -(-SHOWN_PIXELS // height)
        size = (width * scale, height * scale)
        shown = [
            [cv2.resize(image, size, interpolation=cv2.INTER_NEAREST) for image in row]
            for row in (self.images, [(255 * c + 0.5).astype(np.uint8) for c in self.colors()])
        ]
        return np.concatenate([np.concatenate(row, axis=1) for row in shown])

    def save(self, folder: Path) -> None:
        """Write ``epoch_0000.npz`` and the strip as ``epoch_0000.png``, each whole or not."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **vars(self))
        path = folder / f'epoch_{self.epoch:04d}.npz'
        write_atomically(path, buffer.getvalue())
        encoded = cv2.imencode('.png', self.strip()[..., ::-1])[1]
        write_atomically(path.with_suffix('.png'), encoded.tobytes())


def load_moment(path: Path) -> Moment:
    """Read what :meth:`Moment.save` has written."""
    with np.load(path) as content:
        images = 'images' if 'images' in content else 'pictures'  # before version 0.2
        return Moment(
            int(content['epoch']), str(content['branch']), content[images], content['scores']
        )


def moments_of(work_dir: Path) -> dict[int, Path]:
    """The moments of a run by epoch, over all its pieces.

    What an earlier piece drew from the first epoch of a later one on is left out: it belongs to
    steps that the later one took again.
    """
    found: dict[int, Path] = {}
    for piece in pieces_of(work_dir):
        paths = {int(p.stem.split('_')[1]): p for p in piece.glob('features/epoch_*.npz')}
        first = min(paths, default=0)
        found = {epoch: path for epoch, path in found.items() if epoch < first or not paths}
        found |= paths
    return dict(sorted(found.items()))


@HOOKS.register_module()
class FeatureFigures(EncoderMonitor):
    """Draw the patch features of a few images through training, as colors.

    Before the first step, every ``interval`` epochs and after the last one, the first three
    principal components of the teacher's patch tokens (of a method without one: the student's)
    become red, green and blue. Each moment has its own components, turned as a whole so that the
    colors stay as near as possible to those of the moment before, also in a resumed run; see
    :func:`moca.evaluation.components.turned_onto`.

    Written to ``vis_data/features`` of the run and handed to every visualization backend but
    mmengine's local one. The run does not notice.

    Args:
        images: A folder, searched recursively; None: the training images.
        count: How many, evenly spaced over the sorted list; 4.
        interval: In epochs; 10.

    Raises:
        UserError: No image can be read, or a field is out of its range.
    """

    def __init__(self, images: str | None = None, count: int = 4, interval: int = 10) -> None:
        super().__init__(interval)
        if count < 1:
            raise UserError(f'FeatureFigures.count is {count!r}; give 1 or more.')
        self.count = count
        self.paths = None if images is None else list_images(Path(images), 'FeatureFigures.images')

    @master_only
    def before_train(self, runner: Any) -> None:
        """Read the images, and draw what training starts from unless it is resumed."""
        _, encoder = encoder_of(runner.model)
        size = image_size(encoder)
        if self.paths is not None:
            paths = self.paths
            images = _read_some(self.count, len(paths), lambda i: read_image(paths[i]), size)
        else:
            dataset = runner.train_dataloader.dataset
            images = _read_some(self.count, len(dataset), lambda i: _training(dataset, i), size)
        normalization = normalization_of(runner)
        self.images = torch.stack([normalize(image, *normalization) for image in images])
        self.shown = np.stack([np.asarray(image) for image in images])
        self.previous = self._last_of_earlier_pieces(runner) if runner.iter > 0 else None
        super().before_train(runner)

    @master_only
    def look(self, runner: Any, epoch: int) -> None:
        """Draw one moment."""
        branch, encoder = encoder_of(runner.model)
        with evaluating(encoder):
            tokens = patch_features(encoder, self.images, precision_of(runner)).cpu()
        maps = tokens.unflatten(1, encoder.grid).permute(0, 3, 1, 2)
        scores = principal_scores(list(maps))
        if self.previous is not None and self.previous.numel() == scores.numel():
            scores = turned_onto(scores, self.previous)
        self.previous = scores
        shape = (len(maps), *encoder.grid, 3)
        moment = Moment(epoch, branch, self.shown, scores.reshape(shape).numpy())
        moment.save(Path(runner.log_dir) / 'vis_data' / 'features')
        for backend in runner.visualizer._vis_backends.values():
            if not isinstance(backend, LocalVisBackend):  # it would write the same file again
                backend.add_image(f'{branch} features', moment.strip(), runner.iter)

    def _last_of_earlier_pieces(self, runner: Any) -> torch.Tensor | None:
        past = [
            path
            for epoch, path in moments_of(Path(runner.work_dir)).items()
            if epoch <= runner.epoch
        ]
        return torch.from_numpy(load_moment(past[-1]).scores).flatten(0, 2) if past else None


def _training(dataset: Any, index: int) -> Any:
    """An image of the data set of pre-training, a file or a member of a shard."""
    try:
        return PIL.Image.fromarray(dataset.open(index).decode())
    except CorruptImage as error:
        raise UserError(
            f'{dataset.path(index)}: cannot be decoded ({error}). Repair or remove it.'
        ) from error


def _read_some(
    count: int, total: int, read: Callable[[int], Any], size: tuple[int, int]
) -> Sequence[Any]:
    """Cut images evenly spaced over a list; one that cannot be decoded gives way to the next."""
    images = []
    for index in evenly_spread(total, count):
        for step in range(_REPLACEMENTS):
            try:
                images.append(center(read((index + step) % total), size))
                break
            except UserError:
                if step == _REPLACEMENTS - 1:
                    raise
    return images


def add_features_hook(cfg: Config, images: str | None = None, interval: int | None = None) -> None:
    """Add `FeatureFigures` to a pre-training config, which is changed, or change the one it has.

    Args:
        cfg: Of a pre-training run.
        images: Folder; None: the training images.
        interval: In epochs; None keeps the hook's own.
    """
    given: dict[str, Any] = {} if interval is None else dict(interval=interval)
    given['images'] = None if images is None else str(images)
    set_hook(cfg, 'features', type='FeatureFigures', **given)
