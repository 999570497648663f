"""nms through mmcv's own functions, against the greedy definition written out."""

import pytest
import torch
from mmcv.ops import batched_nms, nms
from torch import Tensor

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]


def area(box: list[float], offset: int) -> float:
    return (box[2] - box[0] + offset) * (box[3] - box[1] + offset)


def iou(a: list[float], b: list[float], offset: int) -> float:
    width = max(min(a[2], b[2]) - max(a[0], b[0]) + offset, 0)
    height = max(min(a[3], b[3]) - max(a[1], b[1]) + offset, 0)
    return width * height / (area(a, offset) + area(b, offset) - width * height)


def greedy(boxes: Tensor, scores: Tensor, threshold: float, offset: int = 0) -> list[int]:
    """Take boxes by falling score (equal scores: in order) unless a taken one overlaps more."""
    corners = boxes.double().tolist()
    kept: list[int] = []
    for index in sorted(range(len(corners)), key=lambda i: (-scores[i].item(), i)):
        if all(iou(corners[index], corners[other], offset) <= threshold for other in kept):
            kept.append(index)
    return kept


def random_boxes(count: int, seed: int, size: int = 40) -> Tensor:
    """Return `[count, 4]` boxes with whole-number corners: IoUs are then exact fractions."""
    generator = torch.Generator().manual_seed(seed)
    corners = torch.randint(0, size, (count, 2), generator=generator)
    sides = torch.randint(4, size // 2, (count, 2), generator=generator)
    return torch.cat((corners, corners + sides), dim=1).float()


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('offset', [0, 1])
@pytest.mark.parametrize('threshold', [0.13, 0.37, 0.53])
def test_random_boxes(threshold: float, offset: int, device: str) -> None:
    for seed in range(3):
        boxes = random_boxes(120, seed)
        scores = torch.rand(120, generator=torch.Generator().manual_seed(seed))
        expected = greedy(boxes, scores, threshold, offset)
        assert 5 < len(expected) < 115  # otherwise the comparison says little
        dets, keep = nms(boxes.to(device), scores.to(device), threshold, offset=offset)
        assert keep.tolist() == expected
        torch.testing.assert_close(
            dets.cpu(), torch.cat((boxes[expected], scores[expected, None]), 1), rtol=0, atol=0
        )


def test_offset_decides() -> None:
    # 3 x 1 and 2 x 1, one inside the other: 2/3; counted with end pixels, 4 x 2 and 3 x 2: 3/4.
    boxes = torch.tensor([[0.0, 0, 3, 1], [0, 0, 2, 1]])
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.7, offset=0)[1].tolist() == [0, 1]
    assert nms(boxes, scores, 0.7, offset=1)[1].tolist() == [0]


def test_equal_scores_keep_the_earlier_box() -> None:
    boxes = random_boxes(60, seed=7)
    scores = torch.randint(0, 3, (60,), generator=torch.Generator().manual_seed(7)) / 4
    assert nms(boxes, scores, 0.3)[1].tolist() == greedy(boxes, scores, 0.3)


def test_threshold_is_exclusive() -> None:
    boxes = torch.tensor([[0.0, 0, 4, 1], [0, 0, 2, 1]])  # IoU exactly 0.5
    scores = torch.tensor([0.9, 0.8])
    assert nms(boxes, scores, 0.5)[1].tolist() == [0, 1]


@pytest.mark.parametrize('device', DEVICES)
def test_no_boxes(device: str) -> None:
    dets, keep = nms(torch.zeros(0, 4, device=device), torch.zeros(0, device=device), 0.5)
    assert dets.shape == (0, 5)
    assert keep.shape == (0,)
    assert keep.dtype == torch.long


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('dtype', [torch.float16, torch.bfloat16, torch.float64])
def test_types(dtype: torch.dtype, device: str) -> None:
    boxes = random_boxes(60, seed=3).to(device, dtype)  # whole numbers below 60: exact in all
    scores = torch.rand(60, generator=torch.Generator().manual_seed(3)).to(device, dtype)
    dets, keep = nms(boxes, scores, 0.3)
    assert keep.tolist() == greedy(boxes, scores, 0.3)
    assert dets.dtype == dtype


def test_scores_and_boxes_of_different_types() -> None:
    boxes = random_boxes(60, seed=4)
    scores = torch.rand(60, generator=torch.Generator().manual_seed(4)).bfloat16()
    assert nms(boxes, scores, 0.3)[1].tolist() == greedy(boxes, scores, 0.3)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('split_thr', [10000, 10])  # all classes at once, or one after the other
def test_batched(split_thr: int, device: str) -> None:
    boxes = random_boxes(90, seed=5)
    scores = torch.rand(90, generator=torch.Generator().manual_seed(5))
    classes = torch.arange(90) % 3
    config = dict(type='nms', iou_threshold=0.3, split_thr=split_thr)
    dets, keep = batched_nms(boxes.to(device), scores.to(device), classes.to(device), config)

    expected: list[int] = []
    for label in range(3):
        members = (classes == label).nonzero().flatten()
        expected += members[greedy(boxes[members], scores[members], 0.3)].tolist()
    expected.sort(key=lambda index: -scores[index].item())
    assert keep.tolist() == expected
    assert len(expected) > len(greedy(boxes, scores, 0.3))  # classes do not suppress each other
    torch.testing.assert_close(dets[:, 4].cpu(), scores[expected], rtol=0, atol=0)
