"""Masks against the counts of the paper and of the released code."""

import pytest
import torch

from moca.errors import UserError
from moca.pretrain.parts.masking import (
    central_tokens,
    complementary_rounds,
    num_kept,
    random_order,
    round_sizes,
)

RATIOS = (0.55, 0.75), (0.35, 0.55)


@pytest.mark.parametrize(
    ('tokens', 'ratio', 'kept'), [(196, 0.5, 98), (196, 0.75, 49), (196, 0.9, 19), (196, 0.55, 88)]
)
def test_kept_tokens(tokens, ratio, kept):
    assert num_kept(tokens, ratio) == kept


def test_paper_counts_of_a_14_by_14_grid():
    assert round_sizes(196, *RATIOS) == [(88, 127), (49, 88)]


@pytest.mark.parametrize(('tokens', 'hidden'), [(196, (39, 39)), (64, (13, 12))])
def test_rounds_are_complementary(tokens, hidden):
    order = random_order(5, tokens, torch.Generator().manual_seed(0), torch.device('cpu'))
    first, second = complementary_rounds(order, round_sizes(tokens, *RATIOS))
    for row in range(5):
        seen = [set(r.ids_visible[row].tolist()) for r in (first, second)]
        unseen = [
            set(r.ids_decoded[row].tolist()) - s for r, s in zip((first, second), seen, strict=True)
        ]
        assert not seen[0] & seen[1]
        assert unseen[1] <= unseen[0]
        assert tuple(map(len, unseen)) == hidden
        assert sorted(second.order[row].tolist()) == list(range(tokens))


def test_visible_tokens_are_disjoint_even_if_round_1_decodes_everything():
    order = random_order(3, 64, torch.Generator().manual_seed(0), torch.device('cpu'))
    first, second = complementary_rounds(order, round_sizes(64, (0.5, 0.6), (0.0, 0.3)))
    for row in range(3):
        assert not set(first.ids_visible[row].tolist()) & set(second.ids_visible[row].tolist())
        assert sorted(second.order[row].tolist()) == list(range(64))


def test_orders_are_uniform():
    # each of the 6 orders of 3 tokens within 5 standard deviations of 1/6
    order = random_order(6000, 3, torch.Generator().manual_seed(1), torch.device('cpu'))
    _, counts = order.unique(dim=0, return_counts=True)
    assert len(counts) == 6
    assert (counts - 1000).abs().max() < 5 * (6000 * (1 / 6) * (5 / 6)) ** 0.5


def test_central_tokens():
    ids = central_tokens((14, 14), 2, torch.device('cpu'))
    expected = [r * 14 + c for r in range(14) for c in range(14) if 2 <= r < 12 and 2 <= c < 12]
    assert ids.tolist() == expected
    assert central_tokens((3, 5), 1, torch.device('cpu')).tolist() == [6, 7, 8]


def test_no_central_token_is_an_error():
    with pytest.raises(UserError, match=r'skip_offset=2 .*skip_offset=1 or less'):
        central_tokens((4, 4), 2, torch.device('cpu'))


@pytest.mark.parametrize(
    ('encoder', 'decoder', 'message'),
    [
        ((0.999, 0.75), (0.35, 0.55), 'round 1 .* none visible'),
        ((0.55, 0.75), (0.35, 0.9), 'decoder_mask_ratio: round 2'),
        ((0.55, 0.3), (0.35, 0.2), 'cannot be disjoint'),
    ],
)
def test_impossible_ratios_are_errors(encoder, decoder, message):
    with pytest.raises(UserError, match=message):
        round_sizes(64, encoder, decoder)
