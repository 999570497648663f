"""A backbone and a head that tells classes of images, trained or only evaluated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from mmengine.config import Config
from mmengine.dist import get_rank
from mmengine.model import BaseDataPreprocessor, BaseModel
from mmengine.registry import MODELS
from timm.data import Mixup
from timm.data.random_erasing import RandomErasing
from torch import Tensor, nn

from moca.backbone.vit import PlainViT
from moca.engine.seeding import mixed_seed, seeded
from moca.errors import UserError
from moca.evaluation.classification.checks import check_images, hold_out, set_variant
from moca.evaluation.classification.feature_cache import check_cache
from moca.evaluation.classification.published import read_head, set_published
from moca.evaluation.features import check_kind, feature_width, image_feature


@MODELS.register_module()
class NormalizedImages(BaseDataPreprocessor):
    """Moves a batch to the device and normalizes its images there.

    Bit-equal to torchvision's ``ToTensor`` and ``Normalize``.

    Args:
        mean: RGB, of pixels from 0 to 255.
        std: Likewise.
    """

    def __init__(self, mean: Sequence[float], std: Sequence[float], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        for name, values in (('mean', mean), ('std', std)):
            share = torch.tensor([value / 255 for value in values]).view(3, 1, 1)
            self.register_buffer(name, share, persistent=False)

    def forward(self, data: dict[str, Any], training: bool = False) -> dict[str, Any]:
        """Of a batch with ``inputs`` ``[B, 3, H, W]`` uint8, the same with normalized ones.

        A batch of features, which a `FeatureCache` has computed before, stays as it is.
        """
        batch: dict[str, Any] = self.cast_data(data)
        if 'inputs' not in batch:
            return batch
        mean: Any = self.mean
        std: Any = self.std
        return {**batch, 'inputs': batch['inputs'].float().div(255).sub(mean).div(std)}


@MODELS.register_module()
class ImageClassifier(BaseModel):
    """Classes of images by a head on features of a ViT.

    A frozen backbone gives fp32 features without autocast, whatever the run's precision, unless
    ``half`` is set. A trained one gives the mean of its last block's patch tokens before the final
    norm, which is then no part of the model: the head's own fresh norm takes its place
    (facebookresearch/mae, models_vit.py, ``global_pool``).

    Everything random in a training step is a function of (seed, step, process, part), so that a
    resumed run draws what the whole one would have drawn.

    Args:
        backbone: Config of a `PlainViT`.
        head: Config of a `ClassHead` or `SweepHead`; its ``in_channels`` follows from the feature.
        feature: A kind of :func:`moca.evaluation.features.image_feature`.
        erasing: Probability of erasing a box of each training image, filled with normal noise
            (timm's ``pixel`` mode, after normalization).
        mixup: Arguments of timm's `Mixup`, which smooths the labels as well; None leaves images
            and labels as they are.
        half: Take a frozen backbone's features in the run's precision (MAE's linear probe).
        head_from: A classifier's file whose head is loaded; see :mod:`.published`.
        interleaved: As for :func:`moca.evaluation.classification.published.read_head`.
        data_preprocessor: Config of a `NormalizedImages`.
        init_cfg: As mmengine has it.

    Raises:
        UserError: No such feature, or one that a trained backbone does not give.
    """

    def __init__(
        self,
        backbone: dict[str, Any],
        head: dict[str, Any],
        feature: str = 'avg_prenorm',
        erasing: float = 0.0,
        mixup: Mapping[str, Any] | None = None,
        half: bool = False,
        head_from: str | None = None,
        interleaved: bool = True,
        data_preprocessor: dict[str, Any] | None = None,
        init_cfg: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(data_preprocessor, init_cfg)
        self.backbone: PlainViT = MODELS.build(backbone)
        check_feature(feature, self.backbone.frozen)
        self.feature, self.half = feature, half
        self.head_from, self.interleaved = head_from, interleaved
        # F, of features
        self.head_width = feature_width(feature, self.backbone.embed_dims)
        self.head: Any = MODELS.build({**head, 'in_channels': self.head_width})
        self.erasing = erasing
        classes = head.get('num_classes')
        self.mixup = Mixup(**mixup, num_classes=classes) if mixup else None
        # set by RateSchedule and by the loop
        self.seed, self.step, self.part = 0, 0, (0, 1)
        # The checkpoint's own norm is loaded with the rest and then dropped; not a child module.
        self._dropped: tuple[nn.Module, ...] = ()
        if not self.backbone.frozen:
            self._dropped = (self.backbone.norm,)
            self.backbone.norm = nn.Identity()

    @classmethod
    def check_run(
        cls, cfg: Config, splits: Sequence[str], classes: Sequence[str] | None = None
    ) -> None:
        """Check a config's data before anything long runs; see `check_images`."""
        frozen = bool(cfg.model.backbone.get('frozen'))
        check_feature(cfg.model.get('feature', 'avg_prenorm'), frozen)
        if 'train' in splits:
            check_cache(cfg)
        check_images(cfg, splits, classes)

    @classmethod
    def set_published(
        cls, cfg: Config, path: str, width: int, backbone: str | None
    ) -> Sequence[str] | None:
        """Have a config test a classifier of others; see :func:`.published.set_published`."""
        return set_published(cfg, path, width, backbone)

    @classmethod
    def set_variant(cls, cfg: Config, variant: str, checkpoint: str) -> None:
        """Have a config test on a set of :data:`.class_lists.VARIANTS`; see `set_variant`."""
        set_variant(cfg, variant, checkpoint)

    @classmethod
    def set_held_out(cls, cfg: Config, share: float) -> tuple[int, int]:
        """Have a config validate on a share of each class's training images; see `hold_out`."""
        return hold_out(cfg, share)

    def init_weights(self) -> None:
        """Load the backbone's checkpoint, and the head's file if there is one.

        Any other head keeps the weights that it was built with.
        """
        if self._dropped:
            self.backbone.norm = self._dropped[0]
        self.backbone.init_weights()
        if self._dropped:
            self.backbone.norm = nn.Identity()
        self._take_statistics()
        if self.head_from is not None:
            head = read_head(self.head_from, self.backbone.embed_dims, self.interleaved)
            self.head.load_state_dict(head.state())
        self._is_init = True

    def _take_statistics(self) -> None:
        """Let the backbone say what its images are normalized with, if others than it knows."""
        if not isinstance(self.data_preprocessor, NormalizedImages):
            return
        for name in ('mean', 'std'):
            values = getattr(self.data_preprocessor, name).flatten().tolist()
            known = getattr(self.backbone, name)
            if max(abs(a - b) for a, b in zip(values, known, strict=True)) > 1e-5:
                setattr(self.backbone, name, tuple(values))

    def forward(
        self,
        inputs: Tensor | None = None,
        label: Tensor | None = None,
        mode: str = 'tensor',
        features: Tensor | None = None,
        **about: Any,
    ) -> Any:
        """Logits, losses or predictions of a batch.

        Args:
            inputs: ``[B, 3, H, W]``, normalized.
            label: Classes ``[B]``.
            mode: ``tensor`` for logits ``[heads, B, K]``, ``loss`` for a dict of losses,
                ``predict`` for one dict an image of its logits ``[heads, K]`` and the heads' rates.
            features: ``[B, F]``, of images that are not given.
            about: What else a batch says of its images.

        Raises:
            UserError: Logits of an image to be predicted are infinite or no numbers, of all heads.
        """
        if mode == 'loss':
            return self._losses(inputs, label, features)
        logits = self.head(self.features(inputs) if features is None else features)
        if mode == 'tensor':
            return logits
        if not logits.isfinite().all(2).any(0).all():
            raise UserError(
                'logits are not all finite numbers, of none of the heads: accuracy would mean '
                'nothing. Train with a smaller optim_wrapper.optimizer.lr, or without --amp; of a '
                'file that was given, get it again.'
            )
        rates = getattr(self.head, 'rates', ())
        return [{'logits': each, 'rates': rates} for each in logits.unbind(1)]

    def _losses(
        self, images: Tensor | None, label: Tensor | None, features: Tensor | None
    ) -> dict[str, Tensor]:
        assert label is not None
        if images is None:
            assert features is not None
            found: dict[str, Tensor] = self.head.losses(features, label)
            return found
        part = self.part[0]
        with seeded(mixed_seed(self.seed, self.step, get_rank() + 1, part)):
            if self.erasing:
                erase = RandomErasing(self.erasing, mode='pixel', device=str(images.device))
                images = erase(images)
            if self.mixup is not None:
                images, label = self.mixup(images, label)
            losses: dict[str, Tensor] = self.head.losses(self.features(images), label)
        return losses

    def features(self, images: Tensor | None) -> Tensor:
        """What the head stands on, ``[B, F]``, of normalized images ``[B, 3, H, W]``."""
        assert images is not None
        if not self.backbone.frozen:
            return self.backbone(images)[-1].flatten(2).mean(2)
        if self.half:
            return image_feature(self.backbone, images, self.feature).float()
        with torch.autocast(images.device.type, enabled=False):
            return image_feature(self.backbone, images, self.feature)


def check_feature(feature: Any, frozen: bool) -> None:
    """Verify that a classifier's backbone gives a kind of feature.

    Raises:
        UserError: It does not.
    """
    check_kind(feature, 'model.feature')
    if not frozen and feature != 'avg_prenorm':
        raise UserError(
            f"model.feature={feature!r}: a backbone that is trained gives 'avg_prenorm', to which "
            'the head adds a fresh norm. Set it, or backbone.frozen=True.'
        )
