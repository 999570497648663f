"""Labels of patches, sampling, votes: against counts by hand and by brute force."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
import torch

from moca.evaluation.dense.patch_labels import class_shares, most_frequent, pixels_of_patches
from moca.evaluation.dense.pixel_vote import pixel_vote
from moca.evaluation.dense.sampling import rows_per_image, sample_scarce, scarcity
from moca.evaluation.dense.soft_vote import label_maps, soft_vote

VOID = 255


def random_labels(seed: int, images: int = 2, height: int = 6, width: int = 9) -> torch.Tensor:
    random = np.random.default_rng(seed)
    values = random.choice([0, 1, 3, VOID], (images, height, width))
    return torch.from_numpy(values.astype(np.uint8))


def cut(labels: torch.Tensor, patch: int) -> list[list[int]]:
    """The pixels of every patch, by slices."""
    _, height, width = labels.shape
    return [
        image[y : y + patch, x : x + patch].flatten().tolist()
        for image in labels
        for y in range(0, height, patch)
        for x in range(0, width, patch)
    ]


def test_pixels_are_those_of_slices_of_the_label_map() -> None:
    labels = random_labels(0)
    assert pixels_of_patches(labels, 3).flatten(0, 1).tolist() == cut(labels, 3)


@pytest.mark.parametrize('void', ['class0', 'drop'])
def test_shares_are_counted_pixels(void: str) -> None:
    labels = random_labels(1)
    for shares, pixels in zip(
        class_shares(labels, 3, 4, void).flatten(0, 1),  # type: ignore[arg-type]
        cut(labels, 3),
        strict=True,
    ):
        kept = [0 if p == VOID else p for p in pixels if void == 'class0' or p != VOID]
        wanted = [kept.count(c) / len(kept) for c in range(4)]
        assert shares.tolist() == pytest.approx(wanted)


def test_a_void_patch_is_class_0_or_nothing() -> None:
    void = torch.full((1, 2, 2), VOID, dtype=torch.uint8)
    assert class_shares(void, 2, 3).tolist() == [[[1, 0, 0]]]
    assert class_shares(void, 2, 3, 'drop').tolist() == [[[0, 0, 0]]]


def test_the_most_frequent_label_is_torchs_mode() -> None:
    pixels = torch.from_numpy(np.random.default_rng(2).integers(0, 4, (200, 7)).astype(np.uint8))
    assert torch.equal(most_frequent(pixels), pixels.mode(1).values)
    assert most_frequent(torch.tensor([[9, 3, 3, 9]], dtype=torch.uint8)).tolist() == [3]


# ---------------------------------------------------------------- sampling


def test_rows_of_the_published_banks() -> None:
    """VOC twice over 10,582 images, ADE20K over 20,210, Cityscapes over 2975 (at most 32 x 32)."""
    sizes = [1024 * 10**power for power in (2, 3, 4)]
    assert [rows_per_image(size, 2 * 10582, 1024) for size in sizes] == [4, 48, 483]
    assert [rows_per_image(size, 2 * 20210, 1024) for size in sizes] == [2, 25, 253]
    assert [rows_per_image(size, 2 * 2975, 1024) for size in sizes] == [17, 172, 1024]
    assert rows_per_image(10, 10582, 1024) == 1
    assert rows_per_image(None, 10582, 1024) is None


def test_scarcity_counts_the_patches_that_share_a_class() -> None:
    shares = torch.tensor([[[1.0, 0, 0], [0.5, 0.5, 0], [1, 0, 0], [0, 0, 1]]])
    assert scarcity(shares).tolist() == [[3, 3 + 1, 3, 1]]


def test_a_lone_pole_is_sampled() -> None:
    """Of 255 patches of sky and one pole, 8 are drawn: a plain draw has the pole in 3 %."""
    shares = torch.zeros(1, 256, 2)
    shares[0, :, 0] = 1
    shares[0, 100] = torch.tensor([0.0, 1.0])
    random = torch.Generator().manual_seed(0)
    drawn = [
        100 in sample_scarce(shares, torch.rand(1, 256, generator=random), 8)[0].tolist()
        for _ in range(100)
    ]
    assert sum(drawn) == 100


def test_patches_without_a_class_are_sampled_last() -> None:
    shares = torch.tensor([[[0.0, 0], [1, 0], [0, 0], [0, 1]]])
    chosen = sample_scarce(shares, torch.tensor([[0.1, 0.9, 0.2, 0.8]]), 2)
    assert sorted(chosen[0].tolist()) == [1, 3]


# ---------------------------------------------------------------- votes


def test_neighbors_weigh_by_their_cosine_over_the_temperature() -> None:
    cosine = torch.tensor([[0.5, 0.48]])
    shares = torch.tensor([[[1.0, 0.0], [0.25, 0.75]]])
    first = 1 / (1 + np.exp(-1))  # e^25 over e^25 + e^24
    assert soft_vote(cosine, shares).tolist()[0] == pytest.approx(
        [first + 0.25 * (1 - first), 0.75 * (1 - first)]
    )


def test_distributions_are_enlarged_before_the_choice() -> None:
    """Two cells of 4 pixels: bilinear weights of the right one are 0 0 1/8 3/8 5/8 7/8 1 1.

    With shares of .9 and .4 the first class has ``.9 - .5 w``, less than a half from w = 7/8 on;
    enlarged labels would change at the middle, w = 4/8.
    """
    distributions = torch.tensor([[[0.9, 0.1], [0.4, 0.6]]])
    found = label_maps(distributions, (1, 2), (4, 8))
    weights = np.array([0, 0, 1, 3, 5, 7, 8, 8]) / 8
    wanted = (0.9 - 0.5 * weights < 0.5).astype(int)
    assert wanted.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert found.tolist() == [[wanted.tolist()] * 4]


def test_grids_are_row_by_row() -> None:
    distributions = torch.eye(6)[None]
    small = label_maps(distributions, (2, 3), (2, 3))
    assert small.tolist() == [[[0, 1, 2], [3, 4, 5]]]


def test_pixels_vote_at_their_own_place() -> None:
    """A bank patch half A, half B and a query that finds it: half A, half B, no majority."""
    half = torch.tensor([4, 4, 4, 7, 7, 7], dtype=torch.uint8)
    assert pixel_vote(half.expand(1, 3, -1)).tolist() == [half.tolist()]
    random = np.random.default_rng(3)
    labels = torch.from_numpy(random.integers(0, 5, (4, 6, 10)).astype(np.uint8))
    for query, found in zip(labels.tolist(), pixel_vote(labels).tolist(), strict=True):
        for place, label in enumerate(found):
            votes = Counter(neighbor[place] for neighbor in query)
            most = max(votes.values())
            assert label == min(c for c, count in votes.items() if count == most)
