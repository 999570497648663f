"""Window attention against loops over windows, plain attention and the formula of the paper."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from timm.layers import Attention
from torch import Tensor

from moca.backbone import PlainViT
from moca.backbone.windows import WindowAttention, distances
from moca.errors import UserError
from tests.backbone.helpers import TINY, random_images, randomize
from tools.benchmarks.measure import PeakBytes

WIDTH, HEADS = 16, 2
CLOSE = dict(rtol=1e-4, atol=1e-5)
NO_PREFIX = dict(TINY, class_token=False, global_pool='avg', fc_norm=False)


def make_attention(window: int | None, **options: Any) -> tuple[WindowAttention, Attention]:
    """Ours and timm's with the same weights."""
    plain = Attention(WIDTH, HEADS, qkv_bias=True, **options).eval()
    randomize(plain)
    ours = WindowAttention.of(Attention(WIDTH, HEADS, qkv_bias=True, **options), window).eval()
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def by_loop(attention: Attention, x: Tensor, size: int) -> Tensor:
    """Attention within each window, one after the other, of tokens padded with zeros."""
    batch, rows, columns, _ = x.shape
    out = torch.full_like(x, torch.nan)
    for item in range(batch):
        for top in range(0, rows, size):
            for left in range(0, columns, size):
                window = torch.zeros(size, size, WIDTH)
                part = x[item, top : top + size, left : left + size]
                height, width = part.shape[:2]
                window[:height, :width] = part
                result = attention(window.view(1, size * size, WIDTH)).view(size, size, WIDTH)
                out[item, top : top + size, left : left + size] = result[:height, :width]
    return out


class TestAttention:
    @pytest.mark.parametrize('grid', [(4, 4), (6, 4), (5, 7), (1, 3)])
    @pytest.mark.parametrize('fused', [True, False])
    def test_equals_a_loop_over_windows(self, grid: tuple[int, int], fused: bool) -> None:
        ours, plain = make_attention(2)
        ours.fused_attn = fused
        x = random_images(2, *grid, WIDTH)
        torch.testing.assert_close(ours(x), by_loop(plain, x, 2), **CLOSE)

    @pytest.mark.parametrize('window', [None, 4])
    def test_one_window_is_full_attention(self, window: int | None) -> None:
        ours, plain = make_attention(window)
        x = random_images(2, 4, 4, WIDTH)
        torch.testing.assert_close(ours(x), plain(x.flatten(1, 2)).view_as(x), **CLOSE)

    def test_padding_takes_part_where_there_is_some_and_only_there(self) -> None:
        ours, plain = make_attention(4)
        x = random_images(1, 6, 4, WIDTH)
        padded = F.pad(x, (0, 0, 0, 0, 0, 2))
        out = ours(x)
        torch.testing.assert_close(out, ours(padded)[:, :6], **CLOSE)
        whole, cut = x[:, :4], x[:, 4:]
        torch.testing.assert_close(out[:, :4], ours(whole), **CLOSE)
        alone = plain(cut.flatten(1, 2)).view_as(cut)
        assert (out[:, 4:] - alone).abs().max() > 1e-2

    @pytest.mark.parametrize('norm', [False, True])
    @pytest.mark.parametrize('fused', [True, False])
    @pytest.mark.parametrize('window', [None, 3])
    def test_relative_positions(self, window: int | None, fused: bool, norm: bool) -> None:
        options: dict[str, Any] = dict(qk_norm=norm, scale_norm=norm, norm_layer=torch.nn.LayerNorm)
        ours, _ = make_attention(window, **options)
        grid = (3, 3) if window else (3, 5)
        ours.add_rel_pos(grid)
        randomize(ours)
        ours.fused_attn = fused
        x = random_images(2, *grid, WIDTH).requires_grad_()
        found, expected = ours(x), with_positions(ours, x)
        torch.testing.assert_close(found, expected, **CLOSE)
        weights = random_images(*found.shape)
        inputs = (x, *ours.parameters())
        gradients = [
            torch.autograd.grad((out * weights).sum(), inputs) for out in (found, expected)
        ]
        torch.testing.assert_close(*gradients, **CLOSE)

    def test_relative_positions_need_no_map_of_all_pairs(self) -> None:
        side = 32
        ours, _ = make_attention(None)
        ours.add_rel_pos((side, side))
        ours.fused_attn = True
        x = random_images(1, side, side, WIDTH)
        with PeakBytes() as memory:
            ours(x).sum().backward()
        one_map = 4 * HEADS * side**4
        assert memory.peak < one_map

    def test_relative_positions_start_from_nothing(self) -> None:
        ours, plain = make_attention(2)
        ours.add_rel_pos((2, 2))
        x = random_images(1, 4, 4, WIDTH)
        torch.testing.assert_close(ours(x), by_loop(plain, x, 2), **CLOSE)

    def test_relative_positions_of_another_grid_are_resampled(self) -> None:
        table = torch.arange(7.0)[:, None] * torch.tensor([1.0, -2.0])  # 4 x 4, linear
        assert torch.equal(distances(table, 4)[3, 1], table[3 + 2])
        assert torch.equal(distances(table, 4)[0, 3], table[3 - 3])
        resampled = distances(table, 2)  # 3 entries, of distances -1, 0, 1
        expected = F.interpolate(table.T[None], size=3, mode='linear')[0].T
        for query in range(2):
            for key in range(2):
                assert torch.equal(resampled[query, key], expected[query - key + 1])

    def test_takes_no_mask(self) -> None:
        with pytest.raises(ValueError, match='masks'):
            make_attention(2)[0](random_images(1, 2, 2, WIDTH), torch.zeros(4, 4))


def with_positions(attention: WindowAttention, x: Tensor) -> Tensor:
    """Softmax of (q k / sqrt(d) + q (R_h[dy] + R_w[dx])), token by token (MViTv2, eq. 4 and 5)."""
    batch, rows, columns, _ = x.shape
    q, k, v = attention.qkv(x).unflatten(-1, (3, HEADS, -1)).unbind(3)
    q, k = attention.q_norm(q), attention.k_norm(k)
    places = [(row, column) for row in range(rows) for column in range(columns)]
    rows_of, columns_of = attention.rel_pos_h, attention.rel_pos_w
    assert rows_of is not None
    assert columns_of is not None
    out = torch.empty(batch, rows, columns, HEADS, q.shape[-1])
    for item in range(batch):
        for head in range(HEADS):
            for row, column in places:
                query = q[item, row, column, head]
                scores = torch.stack(
                    [
                        query @ k[item, y, x_, head] / len(query) ** 0.5
                        + query @ (rows_of[row - y + rows - 1])
                        + query @ (columns_of[column - x_ + columns - 1])
                        for y, x_ in places
                    ]
                )
                values = torch.stack([v[item, y, x_, head] for y, x_ in places])
                out[item, row, column, head] = scores.softmax(0) @ values
    return attention.proj(attention.norm(out.flatten(-2)))


def make_vit(arch: Any = NO_PREFIX, **options: Any) -> PlainViT:
    model = PlainViT(arch, final_norm=False, **options)
    randomize(model)
    return model


class TestBackbone:
    def test_windows_of_the_whole_image_change_nothing(self) -> None:
        full = make_vit(out_indices=(0, 2)).eval()
        windows = make_vit(out_indices=(0, 2), window_size=4, global_blocks=(1,)).eval()
        windows.load_state_dict(full.state_dict())  # the same names
        images = random_images(2, 3, 32, 32)
        for ours, expected in zip(windows(images), full(images), strict=True):
            torch.testing.assert_close(ours, expected, **CLOSE)

    def test_only_global_blocks_see_further_than_their_window(self) -> None:
        images = random_images(1, 3, 32, 32)
        changed = images.clone()
        changed[..., 16:] += 1  # the right half: the windows of 2 x 2 patches on the right
        for blocks, sees in (((), False), ((1,), True), ((-1,), True)):
            model = make_vit(window_size=2, global_blocks=blocks).eval()
            left = [model(x)[0][..., :2] for x in (images, changed)]
            assert torch.equal(*left) != sees

    @pytest.mark.parametrize('arch', [TINY, dict(TINY, reg_tokens=2)])
    def test_prefix_tokens_take_no_part(self, arch: dict[str, Any]) -> None:
        model = make_vit(arch, window_size=2, global_blocks=(1,)).eval()
        images = random_images(1, 3, 24, 40)
        before = model(images)[0]
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name in ('cls_token', 'reg_token'):
                    parameter.add_(1)
        assert torch.equal(model(images)[0], before)

    @pytest.mark.parametrize('rel_pos', [False, True])
    def test_recomputation_gives_the_same_gradients(self, rel_pos: bool) -> None:
        gradients = []
        options = dict(window_size=3, global_blocks=(1,), rel_pos=rel_pos)
        for recompute in (False, True):
            model = make_vit(TINY, grad_checkpoint=recompute, **options).train()
            # two sizes before any backward: nothing of the second may reach the first's blocks
            first, second = (model(random_images(1, 3, *size))[0] for size in ((32, 32), (16, 40)))
            (first.sum() + second.square().sum()).backward()
            gradients.append({name: p.grad for name, p in model.named_parameters()})
        trained = {name for name, p in model.named_parameters() if p.requires_grad}
        assert {name for name, grad in gradients[0].items() if grad is not None} == trained
        for name in trained:
            torch.testing.assert_close(gradients[1][name], gradients[0][name], **CLOSE)

    @pytest.mark.parametrize('device', ['cpu', pytest.param('cuda', marks=pytest.mark.gpu)])
    def test_bfloat16(self, device: str) -> None:
        model = make_vit(window_size=3, global_blocks=(1,), rel_pos=True).to(device)
        images = random_images(1, 3, 32, 32).to(device)
        with torch.autocast(device, torch.bfloat16):
            (low,) = model(images)
        low.float().sum().backward()
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)
        (high,) = model(images)
        assert (low - high).abs().max() < 0.05 * high.abs().max()

    @pytest.mark.parametrize(
        ('options', 'message'),
        [
            (dict(window_size=0), 'window_size=0'),
            (dict(window_size=2.5), 'window_size=2.5'),
            (dict(window_size=2, global_blocks=(3,)), 'global_blocks: block 3'),
            (dict(global_blocks=(1,)), 'give window_size'),
            (dict(rel_pos=True), 'give window_size'),
        ],
    )
    def test_nonsense(self, options: dict[str, Any], message: str) -> None:
        with pytest.raises(UserError, match=message):
            PlainViT(TINY, **options)

    def test_other_attention_is_refused(self) -> None:
        with pytest.raises(UserError, match='DiffAttention'):
            PlainViT(dict(TINY, attn_layer='diff'), window_size=2)

    def test_tokens_without_a_grid_are_refused(self) -> None:
        model = make_vit(window_size=2)
        with pytest.raises(UserError, match='window_size'):
            model.tokens(random_images(1, 3, 32, 32))
