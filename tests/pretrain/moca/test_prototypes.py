"""The prototype generator's parts against torch's own."""

import torch
import torch.nn.functional as F

from moca.pretrain.moca.prototypes import PrototypeGenerator, unit_rows


def test_unit_rows_equal_torch_down_to_rows_of_zero():
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(7, 5, generator=generator)
    x[2] *= 1e-7  # shorter than eps
    x[4] = 0
    x.requires_grad_()
    upstream = torch.randn(7, 5, generator=generator)
    unit, expected = unit_rows(x), F.normalize(x, dim=1, eps=1e-5)
    torch.testing.assert_close(unit, expected, rtol=1e-6, atol=0)
    (ours,) = torch.autograd.grad(unit, x, upstream)
    (reference,) = torch.autograd.grad(expected, x, upstream)
    torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-6)


def test_prototypes_are_unit_vectors_in_fp32_under_autocast():
    torch.manual_seed(0)
    words = F.normalize(torch.randn(16, 8).relu(), dim=1)
    for width in (8, 6):
        generator = PrototypeGenerator(8, width)
        with torch.autocast('cpu', torch.bfloat16):
            prototypes = generator(words)
        assert prototypes.dtype == torch.float32
        torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(16), rtol=1e-6, atol=0)
