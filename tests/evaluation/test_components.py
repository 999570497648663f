"""Principal components as colors: against numpy, and through time."""

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from moca.errors import UserError
from moca.evaluation.components import colors, principal_colors, principal_scores, turned_onto


def test_principal_colors_order_tokens_as_the_eigenvectors_of_the_covariance_do():
    generator = torch.Generator().manual_seed(0)
    scale = torch.tensor([5.0, 3.0, 2.0, 0.1, 0.1])[:, None, None]
    turn, _ = torch.linalg.qr(torch.randn(5, 5, generator=generator))
    maps = [
        torch.einsum('cd,dhw->chw', turn, scale * torch.randn(5, 6, 8, generator=generator))
        for _ in range(3)
    ]
    colors = principal_colors(maps)
    assert [c.shape for c in colors] == [(6, 8, 3)] * 3
    assert min(c.min() for c in colors) == 0.0
    assert max(c.max() for c in colors) == 1.0
    tokens = np.concatenate([m.numpy().reshape(5, -1).T for m in maps])
    values, vectors = np.linalg.eigh(np.cov(tokens.T))
    found = np.concatenate([c.reshape(-1, 3) for c in colors])
    inside = ((found > 0) & (found < 1)).all(axis=1)
    for component in range(3):
        expected = tokens @ vectors[:, np.argsort(values)[-1 - component]]
        r = np.corrcoef(expected[inside], found[inside, component])[0, 1]
        assert abs(r) == pytest.approx(1.0, abs=1e-4)


def test_too_few_dimensions_are_an_error():
    with pytest.raises(UserError, match='too few'):
        principal_colors([torch.zeros(2, 3, 3)])


def features(noise: float = 0.0, seed: int = 1) -> torch.Tensor:
    """One map of 40 features that three hidden ones explain, seen through random axes."""
    hidden = torch.randn(3, 6, 8, generator=torch.Generator().manual_seed(0))
    generator = torch.Generator().manual_seed(seed)
    axes, _ = torch.linalg.qr(torch.randn(40, 3, generator=generator))
    seen = torch.einsum('cd,dhw->chw', axes, torch.tensor([3, 2.9, 2.8])[:, None, None] * hidden)
    return seen + noise * torch.randn(40, 6, 8, generator=generator)


def test_scores_have_unit_variance_and_the_features_own_distances():
    scores = principal_scores([features()])
    assert torch.allclose(scores.T @ scores / len(scores), torch.eye(3), atol=1e-4)


def test_turning_keeps_distances_and_colors_when_the_features_axes_change():
    before = principal_scores([features(seed=1)])
    now = principal_scores([features(seed=2, noise=0.01)])
    turned = turned_onto(now, before)
    assert torch.allclose(turned @ turned.T, now @ now.T, atol=1e-3)
    assert (turned - before).abs().max() < 0.05
    # without it they are elsewhere: components of nearly equal strength mix
    assert (now - before).abs().max() > 0.5
    shown = [colors(scores, [(6, 8)])[0] for scores in (before, turned)]
    assert np.abs(shown[0] - shown[1]).max() < 0.05


def test_no_rotation_is_nearer():
    before, now = (torch.randn(30, 3, generator=torch.Generator().manual_seed(s)) for s in (0, 1))
    best = (turned_onto(now, before) - before).square().sum().item()
    for seed in range(200):
        turn = torch.tensor(Rotation.random(random_state=seed).as_matrix(), dtype=torch.float32)
        for mirror in (1, -1):
            assert (now @ turn * mirror - before).square().sum().item() >= best


def test_what_a_collapsed_encoder_shows_is_gray():
    same = torch.randn(40, 1, 1, generator=torch.Generator().manual_seed(0)).expand(40, 6, 8)
    rounding = 1e-6 * torch.randn(40, 6, 8, generator=torch.Generator().manual_seed(1))
    (shown,) = principal_colors([same + rounding])
    assert np.abs(shown - 0.5).max() < 0.05
    (shown,) = principal_colors([same + 1e5 * rounding])
    assert shown.std() > 0.2
