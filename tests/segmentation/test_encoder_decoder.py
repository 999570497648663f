"""Sliding windows in batches against mmseg's own, one window after the other."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from mmengine.config import ConfigDict
from mmengine.registry import MODELS
from mmseg.models.segmentors import EncoderDecoder
from mmseg.structures import SegDataSample
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from moca.errors import UserError
from moca.segmentation import LeanEncoderDecoder, LinearSegHead, window_merge
from tests.backbone.helpers import TINY, randomize

CLASSES = 5
LINEAR: dict[str, Any] = dict(type='LinearSegHead', in_channels=32, num_classes=CLASSES)
# logits at a quarter of the resolution: patches of 16, enlarged four times
QUARTER: dict[str, Any] = dict(
    type='mmseg.UPerHead',
    in_channels=[32] * 4,
    in_index=[0, 1, 2, 3],
    pool_scales=(1, 2),
    channels=8,
    num_classes=CLASSES,
    norm_cfg=dict(type='BN'),
    align_corners=False,
)
HEADS = [LINEAR, QUARTER]
# more and fewer rows than windows have, not in steps of them, and less than a window
SIZES = [(64, 112), (71, 97), (32, 48), (20, 100), (50, 31), (17, 23)]


@MODELS.register_module()
class SquaringHead(LinearSegHead):
    """A head that squares its logits once they are enlarged."""

    def predict_by_feat(self, seg_logits: Tensor, batch_img_metas: list[dict[str, Any]]) -> Tensor:
        return super().predict_by_feat(seg_logits, batch_img_metas).square()


@pytest.fixture(autouse=True)
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Merge a few rows and columns at a time, so that tiny images take several blocks."""
    monkeypatch.setattr(window_merge, '_BLOCK_BYTES', 4 * CLASSES * 97 * 9)
    monkeypatch.setattr(window_merge, '_COLUMNS', 20)


def config(head: dict[str, Any], **test_cfg: Any) -> ConfigDict:
    cfg = ConfigDict(
        type='LeanEncoderDecoder',
        data_preprocessor=dict(type='mmseg.SegDataPreProcessor', mean=[120.0] * 3, std=[60.0] * 3),
        backbone=dict(type='PlainViT', arch=dict(TINY)),
        decode_head=dict(head),
        test_cfg={**dict(mode='slide', crop_size=(32, 48), stride=(20, 32)), **test_cfg},
    )
    if head['type'] == 'mmseg.UPerHead':
        cfg.backbone.update(out_indices=(0, 1, 2, 2), arch=dict(TINY, patch_size=16))
        cfg.neck = dict(type='mmseg.Feature2Pyramid', embed_dim=32, norm_cfg=dict(type='BN'))
    return cfg


def segmentors(
    head: dict[str, Any] = LINEAR, at_a_time: int = 3, **test_cfg: Any
) -> tuple[EncoderDecoder, LeanEncoderDecoder]:
    """mmseg's segmentor and ours, of the same weights."""
    theirs = MODELS.build(dict(config(head, **test_cfg), type='mmseg.EncoderDecoder'))
    ours = MODELS.build(config(head, windows=at_a_time, **test_cfg))
    randomize(theirs)
    for module in theirs.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
    theirs.decode_head.conv_seg.weight.data *= 5
    ours.load_state_dict(theirs.state_dict())
    return theirs.eval(), ours.eval()


def images(number: int, height: int, width: int) -> Tensor:
    return torch.randn(number, 3, height, width, generator=torch.Generator().manual_seed(height))


def sample(height: int, width: int, **about: Any) -> SegDataSample:
    return SegDataSample(metainfo=dict(ori_shape=(height, width), **about))


@torch.no_grad()
def compare(
    theirs: EncoderDecoder,
    ours: LeanEncoderDecoder,
    inputs: Tensor,
    samples: list[SegDataSample] | None,
) -> None:
    expected = theirs.predict(inputs, samples and [sample.clone() for sample in samples])
    found = ours.predict(inputs, samples)
    assert len(found) == len(inputs)
    for one, other in zip(found, expected, strict=True):
        check(one, other)


def check(found: SegDataSample, expected: SegDataSample) -> None:
    logits, labels = expected.seg_logits.data, expected.pred_sem_seg.data
    assert logits.std((1, 2)).mean() > 0.1  # or a difference would hide below the tolerance
    assert len(labels.unique()) > 1
    torch.testing.assert_close(found.seg_logits.data, logits, rtol=0, atol=1e-5)
    assert found.pred_sem_seg.data.dtype == labels.dtype
    assert found.pred_sem_seg.data.shape == labels.shape
    best = logits.topk(2, dim=0).values
    clear = (best[0] - best[1] > 2e-5)[None]  # two classes that tie may change places
    assert clear.float().mean() > 0.99
    assert torch.equal(found.pred_sem_seg.data[clear], labels[clear])


@pytest.mark.parametrize('size', SIZES, ids=str)
@pytest.mark.parametrize('head', HEADS, ids=['linear', 'quarter'])
def test_equals_mmseg(head: dict[str, Any], size: tuple[int, int]) -> None:
    compare(*segmentors(head), images(1, *size), [sample(*size)])


@pytest.mark.filterwarnings('ignore:When align_corners=True')
@pytest.mark.parametrize('head', HEADS, ids=['linear', 'quarter'])
def test_many_windows_over_a_pixel(head: dict[str, Any]) -> None:
    head = dict(head, align_corners=True)
    compare(*segmentors(head, stride=(7, 13)), images(1, 53, 90), [sample(53, 90)])


@pytest.mark.parametrize('at_a_time', [1, 4, 100])
def test_batch_of_images(at_a_time: int) -> None:
    theirs, ours = segmentors(at_a_time=at_a_time)
    compare(theirs, ours, images(3, 50, 81), [sample(50, 81) for _ in range(3)])
    sizes: list[int] = []
    ours.backbone.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    compare(theirs, ours, images(3, 50, 81), None)
    # 2 x 3 windows an image, 18 in all
    assert sizes == {1: [1] * 18, 4: [4, 4, 4, 4, 2], 100: [18]}[at_a_time]


def test_padding_flips_and_original_sizes() -> None:
    samples = [
        sample(50, 81),
        sample(100, 90, padding_size=[0, 1, 0, 5]),
        sample(33, 40, img_padding_size=(3, 0, 2, 1), flip=True, flip_direction='horizontal'),
        sample(61, 81, flip=True, flip_direction='vertical'),
        sample(50, 81, flip=False, flip_direction=None),
    ]
    compare(*segmentors(), images(5, 50, 81), samples)


@pytest.mark.parametrize('step', ['val_step', 'test_step'])
@torch.no_grad()
def test_batch_of_different_sizes(step: str) -> None:
    # mmseg takes them one by one only
    theirs, ours = segmentors()
    sizes = [(50, 81), (64, 112), (17, 23), (50, 81)]
    inputs = [(120 + 60 * images(1, *size)[0]).clamp(0, 255).byte() for size in sizes]
    samples = [sample(height + 7, width) for height, width in sizes]
    expected = [
        theirs.test_step(dict(inputs=[one], data_samples=[about.clone()]))[0]
        for one, about in zip(inputs, samples, strict=True)
    ]
    found = getattr(ours, step)(dict(inputs=inputs, data_samples=samples))
    for one, other in zip(found, expected, strict=True):
        check(one, other)
    same = getattr(ours, step)(dict(inputs=inputs[:1], data_samples=samples[:1]))
    check(same[0], expected[0])


@torch.no_grad()
def test_slide_inference() -> None:
    theirs, ours = segmentors(QUARTER)
    inputs = images(2, 71, 97)
    about = [dict(ori_shape=(142, 194), img_shape=(71, 97))] * 2
    expected = theirs.inference(inputs, [dict(one) for one in about])
    torch.testing.assert_close(ours.inference(inputs, about), expected, rtol=0, atol=1e-5)


@torch.no_grad()
def test_half_precision_is_enlarged_in_full() -> None:
    theirs, ours = segmentors(QUARTER, at_a_time=1)
    forward = theirs.decode_head.forward
    types = []

    def full(features: list[Tensor]) -> Tensor:
        logits = forward(features)
        types.append(logits.dtype)
        return logits.float()

    theirs.decode_head.forward = full
    with torch.autocast('cpu', torch.bfloat16):
        compare(theirs, ours, images(1, 64, 112), [sample(64, 112)])
    assert set(types) == {torch.bfloat16}


@torch.no_grad()
def test_logits_are_left_out_and_never_whole() -> None:
    _, ours = segmentors(keep_logits=False)
    inputs = images(1, 71, 97)
    expected = ours.inference(inputs, [dict(ori_shape=(71, 97))]).argmax(1)
    with LargestTensor() as largest:
        (found,) = ours.predict(inputs, [sample(71, 97)])
    assert 'seg_logits' not in found
    assert torch.equal(found.pred_sem_seg.data, expected)
    assert 3 * 71 * 97 <= largest.numel < 4 * 71 * 97  # images, not classes


class LargestTensor(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operator returns."""

    numel = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, Tensor) and func._schema.name != 'aten::expand':
                self.numel = max(self.numel, value.numel())
        return result


@torch.no_grad()
def test_whole_images_and_special_heads_are_left_to_mmseg() -> None:
    theirs, ours = segmentors(mode='whole')
    compare(theirs, ours, images(1, 48, 80), [sample(50, 81, img_shape=(48, 80))])
    # a head that does something of its own to its logits
    theirs, ours = segmentors(dict(LINEAR, type='SquaringHead'))
    compare(theirs, ours, images(1, 50, 81), [sample(50, 81)])
    # one channel for two classes: a threshold instead of the largest
    one_channel = dict(LINEAR, num_classes=2, out_channels=1, threshold=0.5)
    theirs, ours = segmentors(one_channel)
    inputs = images(1, 50, 81)
    expected = theirs.predict(inputs, [sample(50, 81)])[0].pred_sem_seg.data
    assert 0 < expected.mean() < 1
    assert torch.equal(ours.predict(inputs, [sample(50, 81)])[0].pred_sem_seg.data, expected)


@pytest.mark.parametrize(
    ('wrong', 'named'),
    [
        (dict(stride=(33, 32)), 'stride'),
        (dict(windows=0), 'windows'),
        (dict(window=3), "no argument 'window'.*'windows'"),
        (dict(crop_size=None), 'crop_size'),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], named: str) -> None:
    cfg = config(LINEAR, **wrong)
    if cfg.test_cfg.crop_size is None:
        del cfg.test_cfg.crop_size
    with pytest.raises(UserError, match=named):
        MODELS.build(cfg)
