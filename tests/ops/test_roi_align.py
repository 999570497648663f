"""roi_align through mmcv's own function, against bilinear sampling written out."""

import math

import pytest
import torch
from mmcv.ops import RoIAlign, roi_align
from torch import Tensor

from moca.errors import UserError

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
SCALE = 0.25
# Index, x1, y1, x2, y2 in pixels of a 48 x 40 image: inside, across a border, wholly outside, thin.
ROIS = torch.tensor(
    [
        [0, 3.3, 5.1, 29.7, 33.2],
        [1, -9.0, -6.5, 17.4, 50.3],
        [1, 61.0, 4.0, 83.0, 22.0],
        [0, 11.2, 7.9, 12.3, 31.0],
    ],
    dtype=torch.float64,
)
BIN_SHAPE = (3, 2)


def bilinear(plane: Tensor, y: float, x: float) -> Tensor:
    """Sample `[C, H, W]` at (y, x) in units of pixel centers; zero beyond one pixel outside."""
    height, width = plane.shape[-2:]
    if not (-1 <= y <= height and -1 <= x <= width):
        return plane.new_zeros(plane.shape[0])
    y, x = min(max(y, 0.0), height - 1.0), min(max(x, 0.0), width - 1.0)
    top, left = math.floor(y), math.floor(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    dy, dx = y - top, x - left
    upper = (1 - dx) * plane[:, top, left] + dx * plane[:, top, right]
    lower = (1 - dx) * plane[:, bottom, left] + dx * plane[:, bottom, right]
    return (1 - dy) * upper + dy * lower


def pool(features: Tensor, rois: Tensor, sampling_ratio: int, aligned: bool) -> Tensor:
    """Mean of a regular grid of bilinear samples in each bin (He et al. 2017, section 3)."""
    rows, columns = BIN_SHAPE
    shift = 0.5 if aligned else 0.0
    output = features.new_zeros(len(rois), features.shape[1], rows, columns)
    for n, (index, *corners) in enumerate(rois.tolist()):
        x1, y1, x2, y2 = (corner * SCALE - shift for corner in corners)
        height, width = y2 - y1, x2 - x1
        if not aligned:  # the legacy form makes a region at least one pixel
            height, width = max(height, 1.0), max(width, 1.0)
        bin_height, bin_width = height / rows, width / columns
        ny = sampling_ratio or math.ceil(bin_height)
        nx = sampling_ratio or math.ceil(bin_width)
        for row in range(rows):
            for column in range(columns):
                samples = [
                    bilinear(
                        features[int(index)],
                        y1 + (row + (j + 0.5) / ny) * bin_height,
                        x1 + (column + (i + 0.5) / nx) * bin_width,
                    )
                    for j in range(ny)
                    for i in range(nx)
                ]
                output[n, :, row, column] = torch.stack(samples).mean(0)
    return output


def random_features(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 10, 12, generator=torch.Generator().manual_seed(0)).to(dtype)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_forward(sampling_ratio: int, aligned: bool, device: str) -> None:
    features = random_features()
    expected = pool(features, ROIS, sampling_ratio, aligned)
    assert expected[2].abs().max() == 0  # the region outside
    output = roi_align(
        features.to(device), ROIS.to(device), BIN_SHAPE, SCALE, sampling_ratio, 'avg', aligned
    )
    torch.testing.assert_close(output.cpu(), expected)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
@pytest.mark.parametrize('sampling_ratio', [0, 2])
def test_gradient(sampling_ratio: int, aligned: bool, device: str) -> None:
    def function(features: Tensor) -> Tensor:
        return roi_align(
            features, ROIS.to(device), BIN_SHAPE, SCALE, sampling_ratio, 'avg', aligned
        )

    features = random_features()[:, :1].to(device).requires_grad_()
    # Overlapping regions add up in any order on a GPU.
    assert torch.autograd.gradcheck(function, features, nondet_tol=1e-9)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('aligned', [True, False])
def test_gradient_equals_the_formulas(aligned: bool, device: str) -> None:
    weights = torch.randn(len(ROIS), 3, *BIN_SHAPE, generator=torch.Generator().manual_seed(1))
    theirs = random_features().requires_grad_()
    (pool(theirs, ROIS, 0, aligned) * weights).sum().backward()
    ours = random_features().to(device).requires_grad_()
    pooled = roi_align(ours, ROIS.to(device), BIN_SHAPE, SCALE, 0, 'avg', aligned)
    (pooled * weights.to(device)).sum().backward()
    assert ours.grad is not None
    torch.testing.assert_close(ours.grad.cpu(), theirs.grad)


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize(
    ('dtype', 'tolerance'), [(torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1e-2)]
)
def test_types(dtype: torch.dtype, tolerance: float, device: str) -> None:
    features = random_features().to(dtype)  # the rounded map is the common ground
    ours = features.to(device).requires_grad_()
    output = roi_align(ours, ROIS.to(device, torch.float32), BIN_SHAPE, SCALE, 2)
    assert output.dtype == dtype
    torch.testing.assert_close(
        output.cpu().double(), pool(features.double(), ROIS, 2, True), rtol=tolerance, atol=1e-3
    )
    output.sum().backward()
    assert ours.grad is not None
    assert ours.grad.dtype == dtype
    # Every sample's weights add up to 1: the gradient sums to the bins of the inside regions.
    inside = ours.grad[0].double().sum().item()
    assert inside == pytest.approx(2 * 3 * math.prod(BIN_SHAPE), rel=tolerance)


@pytest.mark.parametrize('device', DEVICES)
def test_no_regions(device: str) -> None:
    features = random_features().to(device).requires_grad_()
    output = roi_align(features, ROIS[:0].to(device), BIN_SHAPE, SCALE)
    assert output.shape == (0, 3, *BIN_SHAPE)
    output.sum().backward()
    assert features.grad is not None
    assert features.grad.abs().max() == 0


def test_max_pooling_is_refused() -> None:
    layer = RoIAlign(BIN_SHAPE, SCALE, pool_mode='max')
    with pytest.raises(UserError, match='max pooling'):
        layer(random_features(), ROIS)
