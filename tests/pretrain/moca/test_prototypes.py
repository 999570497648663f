"""The prototype generator's output under mixed precision."""

import torch
import torch.nn.functional as F

from moca.pretrain.moca.prototypes import PrototypeGenerator


def test_prototypes_are_unit_vectors_in_fp32_under_autocast():
    torch.manual_seed(0)
    words = F.normalize(torch.randn(16, 8).relu(), dim=1)
    for width in (8, 6):
        generator = PrototypeGenerator(8, width)
        with torch.autocast('cpu', torch.bfloat16):
            prototypes = generator(words)
        assert prototypes.dtype == torch.float32
        torch.testing.assert_close(prototypes.norm(dim=1), torch.ones(16), rtol=1e-6, atol=0)
