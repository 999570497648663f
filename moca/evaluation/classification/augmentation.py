"""Random views of labeled images, by torchvision's and timm's transforms on PIL images.

All draw from the global generators, which the data set seeds for each image.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from typing import Any

from mmengine.registry import TRANSFORMS
from PIL import Image
from timm.data import auto_augment
from timm.data.transforms_factory import transforms_imagenet_train
from torchvision import transforms
from torchvision.transforms import InterpolationMode
from torchvision.transforms import functional as on_images

from moca.errors import UserError

Augmentation = Callable[[Image.Image], Image.Image]

_AREA, _RATIO = (0.08, 1.0), (3 / 4, 4 / 3)
"""Of a crop: its share of the image and its width over its height, in all protocols here."""


@TRANSFORMS.register_module()
class CropAndFlip:
    """A random part of an image at a size, and its mirror image half of the time.

    Args:
        size: Height and width in pixels.
        crop: ``resized`` for torchvision's RandomResizedCrop, which tries ten parts before it
            takes the center (MOCA's and iBOT's linear probes); ``single`` for one part cut to the
            image, TensorFlow's way (facebookresearch/mae, util/crop.py); ``padded`` for a shift
            within 4 pixels of black border (CIFAR).
        interpolation: Of the resize; MOCA's and iBOT's probes take ``bilinear``, MAE's
            ``bicubic``.
        auto_augment: timm's name of a policy for fine-tuning, such as ``rand-m9-mstd0.5-inc1``,
            applied after crop and flip.

    Raises:
        UserError: An argument is none of these.
    """

    def __init__(
        self,
        size: int | Sequence[int],
        crop: str = 'resized',
        interpolation: str = 'bilinear',
        auto_augment: str | None = None,
    ) -> None:
        sides = [size, size] if isinstance(size, int) else [*size]
        if interpolation not in ('bilinear', 'bicubic'):
            raise UserError(
                f'CropAndFlip.interpolation={interpolation!r} is neither bilinear nor bicubic.'
            )
        how = InterpolationMode(interpolation)
        crops: dict[str, Any] = {
            'resized': transforms.RandomResizedCrop(sides, _AREA, _RATIO, how),
            'single': SingleDrawCrop(sides, how),
            'padded': transforms.RandomCrop(sides, padding=4),
        }
        if crop not in crops:
            raise UserError(f'CropAndFlip.crop={crop!r} is none of {", ".join(crops)}.')
        steps = [crops[crop], transforms.RandomHorizontalFlip()]
        if auto_augment is not None:
            whole, added = timm_steps(auto_augment, min(sides), interpolation)
            steps = [whole, added] if crop == 'resized' else [*steps, added]
        self.transform = transforms.Compose(steps)
        self.size = (sides[0], sides[1])

    def __call__(self, image: Image.Image) -> Image.Image:
        """Draw one view of an RGB image."""
        view: Image.Image = self.transform(image)
        return view


class SingleDrawCrop:
    """A part of an image drawn once and cut to the image, as TensorFlow's crop; resized.

    Source: facebookresearch/mae, util/crop.py.

    Args:
        size: Height and width in pixels.
        interpolation: Of the resize.
    """

    def __init__(self, size: list[int], interpolation: InterpolationMode) -> None:
        self.size, self.interpolation = size, interpolation

    def __call__(self, image: Image.Image) -> Image.Image:
        """Draw one part of an image."""
        area = image.width * image.height * random.uniform(*_AREA)
        ratio = math.exp(random.uniform(math.log(_RATIO[0]), math.log(_RATIO[1])))
        width = min(round(math.sqrt(area * ratio)), image.width)
        height = min(round(math.sqrt(area / ratio)), image.height)
        top = random.randint(0, image.height - height)
        left = random.randint(0, image.width - width)
        part: Image.Image = on_images.resized_crop(
            image, top, left, height, width, self.size, self.interpolation
        )
        return part


def timm_steps(name: str, size: int, interpolation: str) -> tuple[Augmentation, Augmentation]:
    """Crop with flip, and policy, as timm's `create_transform` builds them; with black for 0 bits.

    Args:
        name: Of the policy, such as ``rand-m9-mstd0.5-inc1``.
        size: Height and width in pixels.
        interpolation: Of the resize, of rotations and of shears.

    Raises:
        UserError: timm has no such policy.
    """
    try:
        crop, added, _ = transforms_imagenet_train(
            size, auto_augment=name, interpolation=interpolation, color_jitter=None, separate=True
        )
    except (AssertionError, KeyError, ValueError) as error:
        raise UserError(f'auto_augment={name!r}: timm has no such policy ({error}).') from error
    for operation in getattr(added.transforms[0], 'ops', ()):
        if operation.aug_fn is auto_augment.posterize:
            operation.aug_fn = posterize
    return crop, added


def posterize(image: Image.Image, bits: int, **others: Any) -> Image.Image:
    """timm's operation, for 0 bits too, which Pillow 13 refuses: nothing is left of the image.

    ``PosterizeIncreasing`` of timm 1.0.31 keeps 4 bits down to 0. Earlier versions of Pillow mask
    all bits away, which makes every pixel 0.

    Args:
        image: RGB.
        bits: To keep of each value.
        others: What timm gives every operation.
    """
    if bits < 1:
        return Image.new(image.mode, image.size)
    changed: Image.Image = auto_augment.posterize(image, bits, **others)
    return changed
