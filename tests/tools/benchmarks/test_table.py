"""What benchmarks share."""

from __future__ import annotations

import pytest
import torch

from tools.benchmarks.table import fits_gpu


def test_only_a_lack_of_memory_says_that_a_call_does_not_fit() -> None:
    def large(_: int) -> None:
        raise torch.OutOfMemoryError('CUDA out of memory.')

    def wrong(_: int) -> None:
        raise RuntimeError('shapes')

    assert fits_gpu(lambda number: number)
    assert not fits_gpu(large)
    with pytest.raises(RuntimeError, match='shapes'):
        fits_gpu(wrong)


@pytest.mark.gpu
def test_memory_is_free_again() -> None:
    device = torch.device('cuda')

    def too_much(_: int) -> None:
        kept = [torch.empty(2**28, device=device) for _ in range(2**12)]  # 4 TiB
        assert len(kept)

    before = torch.cuda.memory_reserved(device)
    assert not fits_gpu(too_much)
    assert torch.cuda.memory_reserved(device) <= before
