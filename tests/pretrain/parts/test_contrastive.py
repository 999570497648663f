"""Contrastive losses against loops over the papers' formulas, and closed forms."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from moca.errors import UserError
from moca.pretrain.parts.contrastive import (
    KeyBank,
    SharedBatchNorm,
    build_projector,
    check_contrastive,
    info_nce,
    nt_xent,
)


def nt_xent_by_loops(first, second, temperature):
    """SimCLR, equation 1, pair by pair in double precision."""
    both = [row.double() / row.double().norm() for row in torch.cat([first, second])]
    images, total = len(first), 0.0
    for i, one in enumerate(both):
        partner = (i + images) % (2 * images)
        scores = {
            j: math.exp(float(one @ other) / temperature) for j, other in enumerate(both) if j != i
        }
        total -= math.log(scores[partner] / sum(scores.values()))
    return total / len(both)


def test_nt_xent_equals_the_papers_formula():
    first, second = torch.randn(5, 7), torch.randn(5, 7)
    expected = nt_xent_by_loops(first, second, 0.1)
    assert nt_xent(first, second, 0.1).item() == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize('images', [2, 6])
def test_equal_embeddings_cost_the_logarithm_of_the_choices(images):
    same = torch.randn(1, 8).expand(images, 8)
    assert nt_xent(same, same, 0.1).item() == pytest.approx(math.log(2 * images - 1), rel=1e-5)
    bank = F.normalize(same[:1], dim=1).expand(12, 8)
    assert info_nce(same, same, bank, 0.2).item() == pytest.approx(math.log(13), rel=1e-5)


def test_info_nce_equals_the_papers_formula_and_spares_the_key():
    query = torch.randn(4, 6, requires_grad=True)
    key = torch.randn(4, 6, requires_grad=True)
    bank = F.normalize(torch.randn(9, 6), dim=1)
    total = 0.0
    for one, own in zip(query.detach(), key.detach(), strict=True):
        one, own = one / one.norm(), own / own.norm()
        positive = math.exp(float(one @ own) / 0.2)
        negatives = sum(math.exp(float(one @ other) / 0.2) for other in bank)
        total -= math.log(positive / (positive + negatives))
    loss = info_nce(query, key, bank, 0.2)
    assert loss.item() == pytest.approx(total / 4, rel=1e-5)
    loss.backward()
    assert query.grad.any()
    assert key.grad is None


def test_losses_are_fp32_under_autocast():
    first, second = (F.normalize(torch.randn(6, 64), dim=1) for _ in range(2))
    bank = F.normalize(torch.randn(32, 64), dim=1)
    losses = (lambda: nt_xent(first, second, 0.1), lambda: info_nce(first, second, bank, 0.1))
    for loss in losses:
        expected = loss()
        with torch.autocast('cpu', torch.bfloat16):
            torch.testing.assert_close(loss(), expected, rtol=1e-6, atol=0)


def test_bank_is_first_in_first_out_and_of_length_one():
    bank = KeyBank(6, 3)
    torch.testing.assert_close(bank.keys.norm(dim=1), torch.ones(6))
    past = bank.keys.clone()
    batches = [torch.randn(2, 3) for _ in range(4)]
    bank.enqueue(batches[0])
    torch.testing.assert_close(bank.keys[:2], F.normalize(batches[0], dim=1))
    assert torch.equal(bank.keys[2:], past[2:])
    for batch in batches[1:]:
        bank.enqueue(batch)
    # the fourth overwrote the first
    kept = torch.cat([batches[3], batches[1], batches[2]])
    torch.testing.assert_close(bank.keys, F.normalize(kept, dim=1))
    assert bank.pointer.item() == 2


def test_projector_is_simclrs():
    given = dict(in_dim=4, hidden_dim=6, out_dim=3)
    projector = build_projector(4, dict(hidden_dim=6), hidden_dim=4096, out_dim=3)
    plain = nn.Sequential(
        *(nn.Linear(4, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()),
        *(nn.Linear(6, 6, bias=False), nn.BatchNorm1d(6), nn.ReLU()),
        nn.Linear(6, given['out_dim']),
    )
    plain.load_state_dict(projector.state_dict())
    rows = torch.randn(5, 4)
    assert torch.equal(projector(rows), plain(rows))
    for name, value in plain.state_dict().items():
        assert torch.equal(projector.state_dict()[name], value), name
    with pytest.raises(UserError, match=r"model\.projector .*'hidden'.* 'hidden_dim'"):
        build_projector(4, dict(hidden=6), hidden_dim=8, out_dim=3)


def test_batch_norm_is_fp32_under_autocast():
    norm = SharedBatchNorm(4)
    with torch.autocast('cpu', torch.bfloat16):
        assert norm(torch.randn(5, 4).bfloat16()).dtype == torch.float32


def test_batches_that_cannot_be_told_apart_are_errors():
    with pytest.raises(UserError, match=r'train_dataloader\.batch_size'):
        check_contrastive(1, (0, 1))
    with pytest.raises(UserError, match=r'accumulative_counts=4 \(--accumulate\).*grad_checkpoint'):
        check_contrastive(8, (0, 4))
    with pytest.raises(UserError, match=r'model\.bank_size=16 .* 6 images .*bank_size=12'):
        KeyBank(16, 4).check_batch(6)
    with pytest.raises(UserError, match='bank_size=0'):
        KeyBank(0, 4)
    KeyBank(16, 4).check_batch(8)
