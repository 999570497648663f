"""Object discovery by LOST, measured as CorLoc on Pascal VOC or COCO."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from mmengine.registry import TASK_UTILS
from PIL import Image
from torch import Tensor

from moca.backbone import PlainViT
from moca.engine.ranges import check_count
from moca.evaluation.dense.box_data import BoxedImage, read_coco, read_voc
from moca.evaluation.dense.keys import keys_and_features, which_keys
from moca.evaluation.dense.lost import (
    CANDIDATES,
    CENTERED,
    Discovery,
    centered_box,
    discover,
    located,
    whole_box,
)
from moca.evaluation.labeled import normalize, read_image
from moca.evaluation.protocol import Evaluation, EvaluationRun, Result


def discoveries(
    model: PlainViT, image: Image.Image, candidates: int = CANDIDATES
) -> tuple[Discovery, Discovery]:
    """The object that LOST finds by keys, and the one that it finds by output features.

    Args:
        model: In eval mode.
        image: RGB, of any size; zeros on the right and below make whole patches.
        candidates: How many patches of the lowest degree may join the seed.
    """
    device = next(model.parameters()).device
    pixels: Tensor = normalize(image, model.mean, model.std)[None].to(device)
    size = image.height, image.width
    keys, output = keys_and_features(model, pixels)
    found = [discover(maps[0], size, model.patch_size, candidates) for maps in (keys, output)]
    return found[0], found[1]


def shrunk(image: Image.Image, longest: int | None) -> tuple[Image.Image, float]:
    """An image whose longer side is no longer than some pixels, and by what its boxes shrink.

    Args:
        image: RGB.
        longest: In pixels; None leaves it as it is.
    """
    side = max(image.size)
    if longest is None or side <= longest:
        return image, 1.0
    scale = longest / side
    size = max(round(image.width * scale), 1), max(round(image.height * scale), 1)
    return image.resize(size, Image.Resampling.BICUBIC), scale


@TASK_UTILS.register_module()
class LOST(Evaluation):
    """Find one object in each image.

    Metrics in percent of images, where the box has an IoU of .5 or more with a true one:
    ``CorLoc`` by keys, which is the published one; ``CorLoc_output`` by features after the final
    norm; and of two baselines, ``CorLoc_whole`` (the whole image) and ``CorLoc_centered`` (70 % of
    each side). A backbone below these has found nothing.

    Args:
        data_root: With ``annotations`` the folder that it and ``images`` are in; else that of a
            year of Pascal VOC.
        split: Of Pascal VOC.
        annotations: A file of COCO, below ``data_root``.
        images: The folder of its images, below ``data_root``.
        names: A list of the images that count, below ``data_root``; None for all with objects.
        candidates: How many patches of the lowest degree may join the seed.
        longest: Longer sides are shrunk to so many pixels; None as published.

    Raises:
        UserError: A setting is out of its range.
    """

    def __init__(
        self,
        data_root: str,
        *,
        split: str = 'trainval',
        annotations: str | None = None,
        images: str = '',
        names: str | None = None,
        candidates: int = CANDIDATES,
        longest: int | None = None,
    ) -> None:
        for name, value in (('candidates', candidates), ('longest', longest)):
            if value is not None:
                check_count(value, f'evaluation.{name}')
        self.data_root, self.split, self.annotations = data_root, split, annotations
        self.images, self.names = images, names
        self.candidates, self.longest = candidates, longest

    def prepare(self) -> None:
        """List images and boxes.

        Raises:
            UserError: A file is missing or wrong.
        """
        root, field = Path(self.data_root), 'evaluation.data_root'
        if self.annotations is None:
            self.boxed = read_voc(root, self.split, field)
        else:
            names = None if self.names is None else root / self.names
            self.boxed = read_coco(root / self.annotations, root / self.images, names, field)
        self.train_images, self.val_images = 0, len(self.boxed)

    def run(self, model: PlainViT, run: EvaluationRun) -> Result:
        """Find an object in every image, and measure."""
        right = [self._score(model, boxed) for boxed in run.progress(self.boxed, 'images')]
        names = ('CorLoc', 'CorLoc_output', 'CorLoc_whole', 'CorLoc_centered')
        shares = 100 * np.mean(right, axis=0)
        settings = {
            'features': which_keys(model),
            'features_output': 'patches after the final norm, not of unit length',
            'candidates': self.candidates,
            'longest': self.longest,
            'centered_share': CENTERED,
            'images': len(self.boxed),
        }
        metrics = dict(zip(names, map(float, shares), strict=True))
        return Result(metrics=metrics, chosen={}, settings=settings)

    def _score(self, model: PlainViT, boxed: BoxedImage) -> tuple[bool, bool, bool, bool]:
        image, scale = shrunk(read_image(boxed.path), self.longest)
        keys, output = discoveries(model, image, self.candidates)
        size, true = (image.height, image.width), boxed.boxes * scale
        return (
            located(keys.box, true),
            located(output.box, true),
            located(whole_box(size), true),
            located(centered_box(size), true),
        )
