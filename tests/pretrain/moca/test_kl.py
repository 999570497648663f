"""The chunked KL against torch's own, over full tensors."""

import pytest
import torch
import torch.nn.functional as F

from moca.pretrain.moca import kl
from moca.pretrain.moca.kl import assignment_kl


def plain(features, prototypes, targets, scale):
    log_p = F.log_softmax(scale * features @ prototypes.T, dim=-1)
    return F.kl_div(log_p, targets, reduction='batchmean')


def blocks(targets, size):
    for start in range(0, len(targets), size):
        yield 0, slice(start, start + size), targets[start : start + size]


@pytest.fixture
def inputs():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(50, 8, generator=generator)
    prototypes = F.normalize(torch.randn(30, 8, generator=generator), dim=1)
    targets = torch.randn(50, 30, generator=generator).mul(3).softmax(-1)
    return features.requires_grad_(), prototypes.requires_grad_(), targets


@pytest.mark.parametrize('chunk', [1, 7, 50, 1024])
@pytest.mark.parametrize('lazy', [False, True])
def test_loss_and_gradients_equal_torch(inputs, monkeypatch, chunk, lazy):
    monkeypatch.setattr(kl, 'rows_at_once', lambda *_: chunk)
    features, prototypes, targets = inputs
    expected = plain(features, prototypes, targets, 3.0)
    expected_grads = torch.autograd.grad(2 * expected, (features, prototypes))
    given = blocks(targets, chunk) if lazy else targets
    loss, entropy = assignment_kl(features, prototypes, given, 3.0)
    entropies = torch.distributions.Categorical(probs=targets).entropy()
    torch.testing.assert_close(entropy, entropies.mean(), rtol=1e-6, atol=1e-7)
    assert not entropy.requires_grad
    grads = torch.autograd.grad(2 * loss, (features, prototypes))
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    for ours, reference in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-7)


def test_means_of_several_tensors_are_added(inputs):
    features, prototypes, targets = inputs
    parts = [features[:20], features[20:]]
    expected = sum(
        plain(part, prototypes, target, 3.0)
        for part, target in zip(parts, targets.split([20, 30]), strict=True)
    )
    expected_grads = torch.autograd.grad(expected, (features, prototypes))
    # in any order, each row once
    given = [
        (1, slice(0, 25), targets[20:45]),
        (0, slice(0, 20), targets[:20]),
        (1, slice(25, 30), targets[45:]),
    ]
    loss, entropy = assignment_kl(parts, prototypes, given, 3.0)
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    entropies = torch.distributions.Categorical(probs=targets).entropy()
    torch.testing.assert_close(
        entropy, entropies[:20].mean() + entropies[20:].mean(), rtol=1e-6, atol=1e-7
    )
    grads = torch.autograd.grad(loss, (features, prototypes))
    for ours, reference in zip(grads, expected_grads, strict=True):
        torch.testing.assert_close(ours, reference, rtol=1e-5, atol=1e-7)


def test_a_second_backward_pass_is_an_error(inputs):
    features, prototypes, targets = inputs
    loss, _ = assignment_kl(features, prototypes, targets, 3.0)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match='second backward pass'):
        loss.backward()


def test_equal_distributions_give_zero_and_one_hot_gives_log_k():
    features, prototypes = torch.zeros(4, 8), torch.zeros(16, 8)
    uniform = torch.full((4, 16), 1 / 16)
    assert assignment_kl(features, prototypes, uniform, 3.0)[0].abs() < 1e-6
    # KL(one-hot || uniform) = ln K, and probability 0 must not give NaN
    one_hot = torch.eye(16)[:4]
    torch.testing.assert_close(
        assignment_kl(features, prototypes, one_hot, 3.0)[0], torch.tensor(16.0).log()
    )


def test_half_precision_features_are_compared_in_fp32(inputs):
    features, prototypes, targets = inputs
    expected = plain(features.bfloat16().float(), prototypes, targets, 3.0)
    with torch.autocast('cpu', torch.bfloat16):
        half = features.detach().bfloat16().requires_grad_()
        loss, _ = assignment_kl(half, prototypes, targets, 3.0)
    assert loss.dtype == torch.float32
    torch.testing.assert_close(loss, expected, rtol=1e-6, atol=1e-7)
    loss.backward()
    assert half.grad.dtype == torch.bfloat16


def test_float16_gradients_survive_by_the_loss_scale(inputs):
    _, prototypes, targets = inputs
    scale, rows = 2.0**16, 20000
    features = torch.randn(rows, 8, generator=torch.Generator().manual_seed(2)).half()
    features.requires_grad_()
    exact = features.detach().float().requires_grad_()
    targets = targets.repeat(rows // len(targets), 1)
    loss, _ = assignment_kl(features, prototypes, targets, 0.01)
    (loss * scale).backward()
    plain(exact, prototypes, targets, 0.01).backward()
    assert features.grad.dtype == torch.float16
    # far below float16's smallest normal number, 6e-5
    assert exact.grad.abs().max() < 1e-6
    torch.testing.assert_close(features.grad.float() / scale, exact.grad, rtol=1e-2, atol=1e-10)


def test_the_body_to_compile_equals_the_one_in_place(inputs, monkeypatch):
    monkeypatch.setattr(kl, 'rows_at_once', lambda *_: 7)
    features, prototypes, targets = inputs
    targets[3] = F.one_hot(torch.tensor(5), 30).float()  # probabilities of 0
    results = []
    for make_terms in (kl.terms, kl._terms_to_fuse):
        loss, entropy = assignment_kl(features, prototypes, targets, 3.0, make_terms)
        results.append((loss, entropy, *torch.autograd.grad(loss, (features, prototypes))))
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-6, atol=1e-8)


def test_what_cannot_be_compiled_is_computed_without(inputs, monkeypatch):
    from torch._dynamo.exc import TorchDynamoException

    calls = []

    def broken(*_):
        calls.append(1)
        raise TorchDynamoException('no compiler here')

    monkeypatch.setattr(kl.torch, 'compile', lambda _: broken)
    lines = []
    monkeypatch.setattr(kl, 'print_log', lambda text, *_: lines.append(text))
    features, prototypes, targets = inputs
    make_terms = kl.compiled_terms()
    expected, _ = assignment_kl(features, prototypes, targets, 3.0)
    for _ in range(2):
        loss, _ = assignment_kl(features, prototypes, targets, 3.0, make_terms)
        assert torch.equal(loss, expected)
    assert len(calls) == len(lines) == 1
    assert 'no compiler here' in lines[0]


@pytest.mark.slow
def test_compiled(inputs, monkeypatch):
    monkeypatch.setattr(kl, 'rows_at_once', lambda *_: 16)  # the last block has 2 rows
    features, prototypes, targets = inputs
    results = []
    for make_terms in (kl.terms, kl.compiled_terms()):
        loss, entropy = assignment_kl(features, prototypes, targets, 3.0, make_terms)
        results.append((loss, entropy, *torch.autograd.grad(loss, (features, prototypes))))
    for eager, other in zip(*results, strict=True):
        torch.testing.assert_close(other, eager, rtol=1e-6, atol=1e-8)
