"""The codebook against its definition, word by word."""

import math

import pytest
import torch

from moca.errors import UserError
from moca.pretrain.moca.codebook import Codebook, perplexity


def test_assignment_is_the_softmax_of_scaled_cosines():
    torch.manual_seed(0)
    codebook = Codebook(8, 4, inv_delta=10.0)
    codebook.frozen_normalizer.fill_(0.25)
    codebook.normalizer.fill_(9.0)  # must not be used before the next update
    feature = torch.randn(1, 4)
    q = codebook.assign(codebook.similarities(feature))
    cosines = [float(torch.cosine_similarity(feature[0], w, dim=0)) for w in codebook.words]
    exponents = [math.exp(10.0 / 0.25 * cosine) for cosine in cosines]
    expected = torch.tensor([e / sum(exponents) for e in exponents])
    torch.testing.assert_close(q[0], expected, rtol=1e-4, atol=1e-6)


def test_queue_replaces_the_oldest_words_and_wraps_around():
    codebook = Codebook(6, 3, words_per_step=2)
    before = codebook.words.clone()
    for step in range(4):
        features = torch.arange(5 * 7 * 3).view(5, 7, 3).float() + 100 * step + 1
        images, tokens = torch.tensor([4, 1]), torch.tensor([6, 0])
        codebook.update(codebook.pick(features, images, tokens, 0))
        expected = torch.stack([features[4, 6], features[1, 0]])
        expected = expected / expected.norm(dim=1, keepdim=True)
        row = 2 * step % 6
        torch.testing.assert_close(codebook.words[row : row + 2], expected)
        if step == 0:
            assert torch.equal(codebook.words[2:], before[2:])
    assert codebook.pointer.item() == 2
    assert codebook.updates.item() == 4


def test_images_of_another_part_of_the_batch_give_no_words():
    codebook = Codebook(8, 3, words_per_step=2)
    features = torch.arange(4 * 7 * 3).view(4, 7, 3).float() + 1
    ids = torch.tensor([3, 0]), torch.tensor([6, 2])
    whole = codebook.pick(features, *ids, 0)
    first, second = codebook.pick(features[:2], *ids, 0), codebook.pick(features[2:], *ids, 2)
    assert torch.equal(first[0], torch.zeros(3))
    assert torch.equal(second[1], torch.zeros(3))
    assert torch.equal(first + second, whole)


def test_normalizer_is_an_average_used_one_step_late():
    codebook = Codebook(4, 2)
    for spread in (1.0, 0.0):
        codebook.track(torch.tensor(spread))
    expected = (0.5 * 0.99 + 0.01) * 0.99
    assert codebook.normalizer.item() == pytest.approx(expected)
    assert codebook.frozen_normalizer.item() == 0.5
    codebook.update(torch.ones(4, 2))
    assert codebook.frozen_normalizer.item() == pytest.approx(expected)


def test_words_start_as_unit_vectors_without_negative_entries():
    words = Codebook(64, 16).words
    assert (words >= 0).all()
    torch.testing.assert_close(words.norm(dim=1), torch.ones(64))


def test_perplexity_counts_words():
    assert perplexity(torch.eye(5)).tolist() == pytest.approx([1] * 5)
    assert perplexity(torch.full((2, 8), 1 / 8)).tolist() == pytest.approx([8, 8])


@pytest.mark.parametrize(('words', 'step'), [(10, 4), (8, 0)])
def test_sizes_that_do_not_fit_are_errors(words, step):
    with pytest.raises(UserError, match='words_per_step'):
        Codebook(words, 4, words_per_step=step)
