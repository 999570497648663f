"""CAPI's classifiers: standardizing, logistic regression, what is chosen on what."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from moca.errors import UserError
from moca.evaluation.dense.capi import (
    KnnSetting,
    PatchSet,
    best_setting,
    confusions,
    held_out_images,
    joined,
    knn_predict,
    logreg_predict,
)
from moca.evaluation.dense.patch_logreg import STRENGTHS, fit_logreg
from moca.evaluation.dense.standardize import Scaler

WIDTH, CLASSES = 5, 3


def blobs(count: int, seed: int, spread: float = 1.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Points around a center for each class, and their labels 1 to 3."""
    random = torch.Generator().manual_seed(seed)
    centers = 2 * torch.randn(CLASSES, WIDTH, generator=torch.Generator().manual_seed(99))
    labels = torch.randint(CLASSES, (count,), generator=random)
    points = centers[labels] + spread * torch.randn(count, WIDTH, generator=random)
    return points, (labels + 1).to(torch.uint8)


def test_a_tenth_of_numpys_permutation_is_held_out() -> None:
    np.random.seed(0)
    order = np.random.permutation(37)
    fitted, chosen_on = held_out_images(37)
    assert chosen_on.tolist() == order[:3].tolist()
    assert fitted.tolist() == order[3:].tolist()
    with pytest.raises(UserError, match='9 training images'):
        held_out_images(9)


def test_standardizing_is_scikit_learns() -> None:
    features = torch.randn(40, 4, generator=torch.Generator().manual_seed(0)) * 3 + 7
    features[:, 2] = 0.1  # constant
    theirs = StandardScaler().fit(features.double().numpy())
    ours = Scaler.of(features)
    assert ours.mean.tolist() == pytest.approx(theirs.mean_.tolist())
    assert ours.scale.tolist() == pytest.approx(theirs.scale_.tolist())
    wanted = theirs.transform(features.double().numpy())
    np.testing.assert_allclose(ours.apply(features).numpy(), wanted, atol=1e-5)


@pytest.mark.parametrize('strength', [STRENGTHS[1], STRENGTHS[3], STRENGTHS[5]])
def test_regression_is_scikit_learns(strength: float) -> None:
    points, labels = blobs(120, seed=0, spread=3.0)
    ours = fit_logreg(points, labels, strength)
    theirs = LogisticRegression(C=strength, solver='newton-cholesky', tol=1e-10).fit(
        points.double().numpy(), labels.numpy()
    )
    scale = np.abs(theirs.coef_).max()
    np.testing.assert_allclose(ours.weight.numpy(), theirs.coef_, atol=1e-4 * scale)
    centered = theirs.intercept_ - theirs.intercept_.mean()
    np.testing.assert_allclose(ours.bias.numpy(), centered, atol=1e-3 * np.abs(centered).max())
    assert ours.predict(points).tolist() == theirs.predict(points.double().numpy()).tolist()


def test_regression_on_a_single_class_knows_it_alone() -> None:
    fitted = fit_logreg(torch.randn(5, 3), torch.full((5,), 9, dtype=torch.uint8), 1.0)
    assert fitted.predict(torch.randn(4, 3)).tolist() == [9, 9, 9, 9]


def patch_set(points: torch.Tensor, labels: torch.Tensor, pixels: int = 4) -> PatchSet:
    return PatchSet(points, labels[:, None].expand(-1, pixels).contiguous())


def test_patches_of_an_ignored_label_are_left_out_and_ignored_pixels_stay() -> None:
    pixels = torch.tensor([[0, 0, 0, 1], [1, 1, 1, 0], [255] * 4, [2, 2, 0, 1]], dtype=torch.uint8)
    kept = PatchSet(torch.arange(4.0)[:, None], pixels).kept((0, 255))
    assert kept.features.flatten().tolist() == [1, 3]
    assert kept.pixels.tolist() == [pixels[1].tolist(), pixels[3].tolist()]


def test_images_are_taken_patch_by_patch() -> None:
    whole = patch_set(torch.arange(12.0)[:, None], torch.arange(12).to(torch.uint8))
    some = whole.images(np.array([2, 0]), patches=4)
    assert some.features.flatten().tolist() == [8, 9, 10, 11, 0, 1, 2, 3]
    assert some.pixels[:, 0].tolist() == some.features.flatten().tolist()


def test_one_search_serves_every_k() -> None:
    """Each setting predicts as a plain k-NN of its own would."""
    train, test = patch_set(*blobs(60, 1, 2.0)), patch_set(*blobs(20, 2, 2.0))
    settings = [KnnSetting(k, d) for k in (1, 3, 10) for d in ('cosine', 'L2')]  # type: ignore[arg-type]
    found = {s: labels for s, _, labels in knn_predict(train, test.features, settings)}
    assert set(found) == set(settings)
    for setting in settings:
        if setting.distance == 'L2':
            far = torch.cdist(test.features, train.features)
        else:
            far = -torch.cosine_similarity(test.features[:, None], train.features[None], dim=2)
        near = far.argsort(1)[:, : setting.k]
        wanted = train.pixels[near].mode(1).values
        assert torch.equal(found[setting], wanted), setting


def test_a_setting_is_chosen_by_what_is_held_out() -> None:
    train, val = patch_set(*blobs(90, 3, 2.5)), patch_set(*blobs(60, 4, 2.5))
    found = confusions(logreg_predict, train, val, STRENGTHS[:5], (0, 255))
    chosen, scores = best_setting(found)
    assert list(scores) == list(STRENGTHS[:5])
    assert scores[chosen] == max(scores.values())
    assert scores[chosen] > scores[STRENGTHS[0]]
    # of equals the first
    same = {setting: found[chosen] for setting in STRENGTHS[:3]}
    assert best_setting(same)[0] == STRENGTHS[0]


def test_a_bank_of_ignored_patches_alone_is_refused() -> None:
    points, labels = blobs(12, 5)
    nothing = patch_set(points, torch.zeros_like(labels))
    with pytest.raises(UserError, match='every training patch is ignored'):
        confusions(knn_predict, nothing, nothing, [KnnSetting(1, 'cosine')], (0, 255))


def test_both_have_the_patches_of_both() -> None:
    one, two = patch_set(*blobs(3, 6)), patch_set(*blobs(2, 7))
    both = joined(one, two)
    assert torch.equal(both.features[:3], one.features)
    assert torch.equal(both.pixels[3:], two.pixels)
