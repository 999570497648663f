"""PlainViT in training: freezing, memory, initial weights, depth for layer decay."""

import itertools

import pytest
import torch
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from moca.backbone import PlainViT
from tests.backbone.helpers import TINY, as_map, make_tiny, random_images

CLOSE = dict(rtol=1e-4, atol=1e-5)


class TestFrozen:
    def test_nothing_is_kept_for_a_backward_pass(self) -> None:
        model, _ = make_tiny(frozen=True, drop_path_rate=0.5)
        images = random_images(1, 3, 32, 32).requires_grad_()
        saved: list[int] = []
        with torch.autograd.graph.saved_tensors_hooks(
            lambda tensor: saved.append(tensor.numel()) or tensor, lambda tensor: tensor
        ):
            (output,) = model(images)
        assert output.grad_fn is None
        assert not saved
        assert not any(parameter.requires_grad for parameter in model.parameters())

    def test_stays_in_eval_mode(self) -> None:
        model, reference = make_tiny(frozen=True, drop_path_rate=0.9)
        parent = nn.Sequential(model, nn.Dropout()).train()
        assert parent.training
        assert not any(module.training for module in model.modules())
        images = random_images(2, 3, 32, 32)
        (output,) = model(images)  # with drop-path, most of it would be missing
        expected = as_map(reference.forward_features(images), (4, 4), 1)
        torch.testing.assert_close(output, expected, **CLOSE)

    def test_frozen_can_be_left_out(self) -> None:
        model, _ = make_tiny(drop_path_rate=0.9)
        model.train()
        images = random_images(16, 3, 32, 32)
        torch.manual_seed(0)
        (first,), (second,) = model(images), model(images)
        assert first.grad_fn is not None
        assert not torch.equal(first, second)  # drop-path is at work

    @pytest.mark.parametrize('final_norm', [True, False])
    @pytest.mark.parametrize('out_indices', [(0,), (0, 1), (2,)])
    def test_every_trainable_parameter_gets_a_gradient(
        self, out_indices: tuple[int, ...], final_norm: bool
    ) -> None:
        # DDP waits for parameters that no output depends on.
        model, _ = make_tiny(out_indices=out_indices, final_norm=final_norm)
        model.train()
        sum(out.square().sum() for out in model(random_images(1, 3, 32, 32))).backward()
        for name, parameter in model.named_parameters():
            assert parameter.requires_grad == (parameter.grad is not None), name
        assert model.blocks[0].attn.qkv.weight.requires_grad


class TestGradientCheckpointing:
    @staticmethod
    def run(grad_checkpoint: bool, drop_path_rate: float) -> tuple[dict[str, Tensor], int]:
        """Gradients, and the bytes held for the backward pass."""
        model, _ = make_tiny(grad_checkpoint=grad_checkpoint, drop_path_rate=drop_path_rate)
        model.train()
        held: list[int] = []

        def pack(tensor: Tensor) -> Tensor:
            held.append(tensor.nbytes)
            return tensor

        torch.manual_seed(0)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            (output,) = model(random_images(4, 3, 32, 32))
        (output * random_images(*output.shape, seed=1)).sum().backward()
        gradients = {k: p.grad for k, p in model.named_parameters() if p.grad is not None}
        return gradients, sum(held)

    @pytest.mark.parametrize('drop_path_rate', [0.0, 0.5])
    def test_same_gradients_from_less_memory(self, drop_path_rate: float) -> None:
        expected, all_held = self.run(False, drop_path_rate)
        actual, held = self.run(True, drop_path_rate)
        assert actual.keys() == expected.keys()
        for name, gradient in expected.items():
            torch.testing.assert_close(actual[name], gradient, rtol=1e-5, atol=1e-6)
        assert held < all_held / 3


class TestLayerDepth:
    @pytest.mark.parametrize('prefix', ['', 'backbone.'])
    def test_rule_of_beit(self, prefix: str) -> None:
        model = PlainViT(dict(TINY, reg_tokens=1, pre_norm=True))
        for name, _ in model.named_parameters():
            depth, total = model.get_layer_depth(prefix + name, prefix)
            assert total == 5  # 3 blocks, the stem, and what comes after
            if name.startswith('blocks.'):
                assert depth == int(name[len('blocks.')]) + 1
            elif name.startswith('norm.'):
                assert depth == 4
            else:
                assert depth == 0, name

    def test_two_digits(self) -> None:
        model = PlainViT(dict(TINY, depth=12))
        assert model.get_layer_depth('blocks.10.mlp.fc1.bias') == (11, 14)
        assert model.get_layer_depth('decode_head.conv_seg.weight', 'backbone.') == (13, 14)


class TestInitialization:
    def test_random_weights_as_in_mae(self) -> None:
        torch.manual_seed(0)
        model = PlainViT(dict(TINY, embed_dim=128, num_heads=4, reg_tokens=2))
        model.init_weights()
        fc1 = model.blocks[1].mlp.fc1  # Xavier: U(-a, a) with a = sqrt(6 / (in + out))
        bound = (6 / (128 + 512)) ** 0.5
        assert fc1.weight.abs().max() <= bound
        assert fc1.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.02)
        assert fc1.bias.abs().max() == 0
        kernel = model.patch_embed.proj.weight
        assert kernel.std().item() == pytest.approx((2 / (128 + 3 * 64)) ** 0.5, rel=0.05)
        assert model.cls_token.std().item() == pytest.approx(0.02, rel=0.3)
        assert (model.blocks[0].norm1.weight == 1).all()

    def test_sine_cosine_positions(self) -> None:
        model = PlainViT(TINY)
        model.init_weights()
        table = model.pos_embed[0].detach()
        assert table[0].abs().max() == 0  # class token
        for row, column in itertools.product(range(4), range(4)):
            entry = table[1 + 4 * row + column].tolist()
            for i in range(8):  # 32 channels: column sines, column cosines, row sines, row cosines
                angle = torch.tensor([column, row], dtype=torch.float64) * 10000 ** (-i / 8)
                sines, cosines = angle.sin().tolist(), angle.cos().tolist()
                expected = [sines[0], cosines[0], sines[1], cosines[1]]
                assert entry[i::8] == pytest.approx(expected, abs=1e-6)

    def test_a_parent_does_not_initialize_again(self) -> None:
        model = PlainViT(TINY)
        parent = Parent(model)
        parent.init_weights()
        before = {key: value.clone() for key, value in model.state_dict().items()}
        parent.init_weights()
        for key, value in model.state_dict().items():
            assert torch.equal(value, before[key]), key

    def test_built_from_a_config(self) -> None:
        model = MODELS.build(dict(type='PlainViT', arch=TINY, out_indices=(0, 2)))
        assert isinstance(model, PlainViT)
        assert len(model(random_images(1, 3, 32, 32))) == 2


class Parent(BaseModule):
    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
