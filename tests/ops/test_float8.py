"""Products in FP8, held against what rounding to e4m3 may do and against plain operators."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from moca.errors import UserError
from moca.ops import float8
from moca.ops.float8 import Float8Linear, check_float8, fits_float8, float8_linear, quantized

DEVICES = ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)]
BF16 = torch.bfloat16


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Of sizes from 1e-4 to 1e2, as activations have them."""
    generator = torch.Generator().manual_seed(seed)
    sizes = 10 ** (6 * torch.rand(shape, generator=generator) - 4)
    return torch.randn(shape, generator=generator) * sizes


def spacing_error(values: Tensor) -> Tensor:
    """The largest error of rounding to e4m3: half a unit of 3 bits, or of the smallest number."""
    scale = values.abs().max() / 448
    return torch.maximum(values.abs() / 16, scale * 2.0**-10) * (1 + 1e-6)


def test_rounding_is_that_of_e4m3() -> None:
    values = numbers(4096)
    rounded, scale = quantized(values)
    error = (rounded.float() * scale - values).abs()
    assert (error <= spacing_error(values)).all()
    assert (error / spacing_error(values)).max() > 0.9  # as coarse as that, and no finer
    assert rounded.float().abs().max() == 448
    zeros, _ = quantized(torch.zeros(3))
    assert torch.equal(zeros.float(), torch.zeros(3))
    broken, _ = quantized(torch.tensor([1.0, float('nan')]))
    assert broken.float().isnan().all()  # is seen, as in other types


def test_the_error_of_a_product_is_bounded_by_its_factors() -> None:
    x, weight, bias = numbers(5, 7, 64), numbers(48, 64, seed=1) / 30, numbers(48, seed=2)
    exact = F.linear(x, weight, bias)
    found = float8_linear(x, weight, bias, BF16)
    assert (found.dtype, found.shape) == (BF16, exact.shape)
    dx, dw = spacing_error(x), spacing_error(weight)
    bound = F.linear(dx, weight.abs()) + F.linear(x.abs(), dw) + F.linear(dx, dw)
    bound += 2**-8 * (exact.abs() + bound) + 2**-8 * bias.abs()  # bfloat16
    error = (found.float() - exact).abs()
    assert (error <= bound).all()
    assert error.mean() < 0.2 * bound.mean()
    in_bf16 = F.linear(x.to(BF16), weight.to(BF16), bias.to(BF16))
    assert error.mean() > 4 * (in_bf16.float() - exact).abs().mean()  # it is no other type


@pytest.mark.parametrize('device', DEVICES)
@pytest.mark.parametrize('biased', [True, False])
def test_the_hardware_s_product_is_the_emulated_one(device: str, biased: bool) -> None:
    x, weight = numbers(37, 64).to(device), numbers(48, 64, seed=1).to(device)
    bias = numbers(48, seed=2).to(device) if biased else None
    (a, scale), (b, factor) = quantized(x), quantized(weight)
    given = (a, b, (scale, factor), bias, BF16)
    expected = float8.emulated_product(*given).float()
    try:
        found = float8.scaled_product(*given)
    except NotImplementedError:
        pytest.skip('this release of torch multiplies FP8 matrices on GPUs only')
    assert found.dtype == BF16
    # sums of some 14 bits on Hopper, and two roundings to bfloat16
    size = F.linear(a.float().abs() * scale, b.float().abs() * factor)
    bound = 2**-8 * expected.abs() + 2**-11 * size + 1e-6
    assert ((found.float() - expected).abs() <= 2 * bound).all()


class TestLayer:
    def layer(self) -> tuple[nn.Linear, Float8Linear]:
        torch.manual_seed(0)
        linear = nn.Linear(64, 32)
        return linear, Float8Linear.of(linear)

    def test_it_is_a_plain_one_unless_all_asks_for_fp8(self) -> None:
        linear, layer = self.layer()
        x = torch.randn(3, 64)
        with torch.no_grad(), torch.autocast('cpu', BF16):
            plain = linear(x)
            assert torch.equal(layer(x), plain)
            layer.on = True
            found = layer(x)
            assert torch.equal(found, float8_linear(x, linear.weight, linear.bias, BF16))
            assert not torch.equal(found, plain)
        with torch.no_grad():
            assert torch.equal(layer(x), linear(x))
        with torch.autocast('cpu', BF16):  # gradients flow as they did
            layer(x).sum().backward()
        assert linear.weight.grad is not None
        torch.testing.assert_close(linear.weight.grad[0], x.sum(0), rtol=1e-2, atol=1e-2)

    def test_it_has_the_very_weights(self) -> None:
        linear, layer = self.layer()
        layer.on = True
        assert list(layer.state_dict()) == list(linear.state_dict())
        with torch.no_grad(), torch.autocast('cpu', BF16):
            before = layer(torch.ones(1, 64))
            linear.weight.add_(1.0)  # as a moving average does, in place
            torch.testing.assert_close(layer(torch.ones(1, 64)), before + 64, rtol=0.05, atol=0.5)

    def test_what_fits(self) -> None:
        assert fits_float8(nn.Linear(32, 16))
        for other in (nn.Linear(24, 16), nn.Linear(16, 24), self.layer()[1], nn.GELU()):
            assert not fits_float8(other)


@pytest.mark.parametrize(
    ('capability', 'said'),
    [(None, 'there is no NVIDIA GPU'), ((8, 6), 'X has 8.6'), ((8, 9), None), ((10, 0), None)],
)
def test_gpus_without_fp8_are_refused(
    capability: tuple[int, int] | None, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, 'is_available', lambda: capability is not None)
    monkeypatch.setattr(torch.cuda, 'get_device_capability', lambda: capability)
    monkeypatch.setattr(torch.cuda, 'get_device_name', lambda: 'X')
    if said is None:
        return check_float8('--x')
    with pytest.raises(UserError, match=f'--x: .* 8.9 .*; {said}. Leave --x out'):
        check_float8('--x')
