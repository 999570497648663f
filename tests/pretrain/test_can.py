"""CAN: its parts against MAE, SimCLR and closed forms, and mistakes of other implementations."""

import pytest
import torch

from moca.backbone import PlainViT
from moca.errors import UserError
from moca.pretrain.can import NoisyDraws, sinusoid
from moca.pretrain.parts.masking import num_kept
from tests.pretrain.parts.test_contrastive import nt_xent_by_loops
from tests.pretrain.parts.test_reconstruction import unfolded
from tests.pretrain.tiny import random_views, tiny_method


def weights(contrastive, reconstruction, denoising):
    return dict(
        contrastive_weight=contrastive,
        reconstruction_weight=reconstruction,
        denoising_weight=denoising,
    )


def both(model):
    return torch.cat(list(random_views(model).values()))


def test_reconstruction_alone_is_mae():
    can = tiny_method('CANPretrain', mask_ratio=0.75, sigma_max=0.0, **weights(0, 1, 0))
    torch.nn.init.zeros_(can.sigma_mlp[2].weight)
    mae = tiny_method('MAEPretrain')
    state = can.state_dict()
    # embedded before the decoder there, of the decoder's width here
    state['decoder.mask_token'] = can.decoder.embed(can.decoder.mask_token)
    mae.load_state_dict(state, strict=False)
    images = both(can)
    can.step = mae.step = 3
    assert torch.equal(can.draw(images).mask.order, mae.random_mask(images, mae.visible).order)
    loss = can(*images.chunk(2), mode='loss')['loss']
    torch.testing.assert_close(loss, mae(images, mode='loss')['loss'], rtol=1e-5, atol=0)


def test_contrast_alone_is_simclr():
    model = tiny_method('CANPretrain', mask_ratio=0.0, sigma_max=0.0, **weights(1, 0, 0))
    first, second = random_views(model).values()
    losses = model(first, second, mode='loss')
    # one batch of both views goes through the projector's batch norm
    features = model.student(torch.cat([first, second]))[0].mean((2, 3))
    embeddings = model.projector(features).detach()
    expected = nt_xent_by_loops(*embeddings.chunk(2), 0.1)
    assert losses['loss'].item() == pytest.approx(expected, rel=1e-4)
    # nothing is hidden: no error, not 0 / 0
    assert losses['reconstruction'].item() == 0
    losses['loss'].backward()
    assert all(p.grad.isfinite().all() for p in model.parameters() if p.grad is not None)


def test_denoising_costs_a_third_of_the_largest_variance_if_nothing_is_predicted():
    model = tiny_method('CANPretrain', **weights(0, 0, 1))
    images = torch.zeros(600, 3, 48, 48)
    outputs = dict(embeddings=torch.randn(600, 8), pixels=torch.zeros(600, 18, 192))
    noise = model.draw(images)
    added = (noise.sigma[:, None, None, None] * noise.noise).unflatten(2, (6, 8))
    outputs['noise'] = unfolded(added.flatten(2, 3), 8)[:, :18]
    outputs['prediction'] = torch.zeros(600, 36, 192)
    loss = model.losses(outputs)['loss'].item()
    assert loss == pytest.approx(0.05**2 / 3, rel=0.1)
    outputs['prediction'][:, :18] = outputs['noise']
    assert model.losses(outputs)['loss'].item() == 0


@pytest.mark.parametrize('kind', ['denoising', 'reconstruction'])
def test_each_loss_reaches_its_own_patches_alone(kind):
    chosen = (0, 0, 1) if kind == 'denoising' else (0, 1, 0)
    model = tiny_method('CANPretrain', **weights(*chosen))
    images = both(model)
    outputs = model.outputs(images, model.draw(images))
    prediction = outputs['prediction'] = outputs['prediction'].detach().requires_grad_()
    model.losses(outputs)['loss'].backward()
    seen, hidden = prediction.grad[:, : model.visible], prediction.grad[:, model.visible :]
    assert seen.all(2).all() == (kind == 'denoising')
    assert hidden.all(2).all() == (kind == 'reconstruction')
    assert not (hidden if kind == 'denoising' else seen).any()


def test_targets_are_the_clean_pixels_and_the_noise_as_it_is():
    model = tiny_method('CANPretrain', sigma_max=3.0, norm_pix=False, denoise_target_scale=2.0)
    images = both(model)
    draws = model.draw(images)
    outputs = model.outputs(images, draws)
    added = draws.sigma[:, None, None, None] * draws.noise
    for row, order in enumerate(draws.mask.order):
        clean = unfolded(images, 8)[row, order[model.visible :]]
        torch.testing.assert_close(outputs['pixels'][row], clean, rtol=0, atol=0)
        noise = 2 * unfolded(added, 8)[row, order[: model.visible]]
        torch.testing.assert_close(outputs['noise'][row], noise, rtol=0, atol=0)
    # each image and view has its own strength
    assert len(set(draws.sigma.tolist())) == 8


def test_the_encoder_sees_the_noise_before_patches_are_cut(monkeypatch):
    model = tiny_method('CANPretrain', sigma_max=1.0)
    images = both(model)
    draws = model.draw(images)
    seen = []
    cut = model.student.unfold
    monkeypatch.setattr(model.student, 'unfold', lambda given: seen.append(given) or cut(given))
    model.outputs(images, draws)
    expected = images + draws.sigma[:, None, None, None] * draws.noise
    assert torch.equal(seen[0], expected)


def test_every_token_learns_of_sigma_seen_or_hidden():
    model = tiny_method('CANPretrain')
    images = both(model)
    mask, sigma, noise = model.draw(images)
    given = []
    model.decoder.embed.register_forward_pre_hook(lambda _, args: given.append(args[0]))
    for strength in (sigma, 2 * sigma):
        model.outputs(images, NoisyDraws(mask, strength, 0 * noise))
    change = given[1] - given[0]
    assert change.shape == (8, 37, 32)  # a class token and all 36 patches
    assert change.abs().amax(2).min() > 1e-2
    torch.testing.assert_close(change, change[:, :1].expand_as(change), rtol=0, atol=1e-5)


def test_sinusoid_of_sigma():
    table = sinusoid(torch.tensor([0.0, 2.0]), 4)
    assert table[0].tolist() == [0, 0, 1, 1]
    expected = torch.tensor([2.0, 0.02]).sin().tolist() + torch.tensor([2.0, 0.02]).cos().tolist()
    assert table[1].tolist() == pytest.approx(expected)


def test_the_papers_mask_hides_half():
    model = tiny_method('CANPretrain')
    assert model.visible == 18
    assert num_kept(196, 0.5) == 98


def test_noise_differs_between_steps_and_from_the_mask():
    model = tiny_method('CANPretrain')
    images = both(model)
    first = model.draw(images)
    again = model.draw(images)
    assert torch.equal(first.noise, again.noise)
    model.step += 1
    assert not torch.equal(first.noise, model.draw(images).noise)
    assert first.noise.std().item() == pytest.approx(1, abs=0.02)
    assert first.sigma.max() <= 0.05


@pytest.mark.parametrize(
    ('changes', 'message'),
    [
        (dict(mask_ratio=0.99), r'model\.mask_ratio=0\.99 leaves none'),
        (dict(sigma_max=-1.0), r'model\.sigma_max=-1'),
        (dict(sigma_scale='a'), r"model\.sigma_scale='a'"),
        (dict(sigma_max=float('nan')), r'model\.sigma_max=nan'),
        (dict(denoising_weight=-0.3), r'model\.denoising_weight=-0\.3'),
        (dict(decoder=dict(dim=0)), r'model\.decoder: dim=0'),
        (dict(decoder=dict(depth=0)), r'model\.decoder: .*depth=0'),
        (dict(decoder=dict(in_dim=8)), r"model\.decoder has no argument 'in_dim'"),
        (dict(projector=dict(in_dim=8)), r"model\.projector has no argument 'in_dim'"),
        (dict(temperature=0.0), r'model\.temperature=0'),
    ],
)
def test_impossible_settings_are_errors(changes, message):
    with pytest.raises(UserError, match=message):
        tiny_method('CANPretrain', **changes)


def test_impossible_batches_are_errors():
    model = tiny_method('CANPretrain')
    with pytest.raises(UserError, match='batch_size: a contrastive loss'):
        model.check_batch(1, 48)
    model.part = (0, 2)
    for refuse in (lambda: model.check_batch(8, 48), lambda: model(**random_views(model))):
        with pytest.raises(UserError, match='accumulative_counts=2'):
            refuse()


def test_there_is_one_encoder():
    model = tiny_method('CANPretrain')
    assert sum(isinstance(module, PlainViT) for module in model.modules()) == 1
