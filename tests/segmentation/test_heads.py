"""mmseg's heads as the protocols use them: Segmenter's decoder, and images without a label."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from mmengine.runner import Runner
from torch import Tensor, nn

from moca.transfer.overrides import set_arch, set_data_root
from tests.configs.helpers import REPOSITORY, shrink, write_ade20k, write_cityscapes

CONFIGS = REPOSITORY / 'configs/segmentation'


def mask_head(width: int, heads: int) -> Any:
    """The decoder of cityscapes/mask-finetune.py for a ViT of another width."""
    cfg = Config.fromfile(CONFIGS / 'cityscapes/mask-finetune.py')
    set_arch(cfg, dict(patch_size=16, embed_dim=width, depth=2, num_heads=heads))
    init_default_scope('mmseg')
    head = MODELS.build(cfg.model.decode_head)
    head.init_weights()
    return head


def segmenter(head: Any, patches: Tensor) -> Tensor:
    """Segmenter's mask transformer of one layer on patch tokens `[B, N, C]`, written out.

    Source: rstrudel/segmenter, segm/model/decoder.py and blocks.py; logits `[B, N, classes]`.
    """
    (block,) = head.layers
    classes, width = head.num_classes, patches.shape[2]
    x = torch.cat([head.dec_proj(patches), head.cls_emb.expand(len(patches), -1, -1)], dim=1)

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        mean, variance = x.mean(-1, keepdim=True), x.var(-1, unbiased=False, keepdim=True)
        return (x - mean) / (variance + 1e-5).sqrt() * layer.weight + layer.bias

    attention = block.attn.attn
    qkv = F.linear(norm(x, block.norm1), attention.in_proj_weight, attention.in_proj_bias)
    q, k, v = qkv.unflatten(-1, (3, width // 64, 64)).permute(2, 0, 3, 1, 4)
    mixed = (q @ k.transpose(-2, -1) * 64**-0.5).softmax(-1) @ v
    x = x + attention.out_proj(mixed.transpose(1, 2).flatten(2))
    first, second = [m for m in block.ffn.modules() if isinstance(m, nn.Linear)]
    assert first.out_features == 4 * width
    x = norm(x + second(F.gelu(first(norm(x, block.norm2)))), head.decoder_norm)

    masks, queries = x[:, :-classes], x[:, -classes:]
    masks = masks @ head.patch_proj.weight.T
    queries = queries @ head.classes_proj.weight.T
    masks = masks / masks.norm(dim=-1, keepdim=True)
    queries = queries / queries.norm(dim=-1, keepdim=True)
    return norm(masks @ queries.transpose(1, 2), head.mask_norm)


def test_mask_transformer_is_segmenter_s() -> None:
    torch.manual_seed(0)
    head = mask_head(width=128, heads=2).eval()
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))  # no bias of 0 hides anything
        features = torch.randn(2, 128, 3, 5)
        expected = segmenter(head, features.flatten(2).transpose(1, 2))
        expected = expected.transpose(1, 2).unflatten(-1, (3, 5))
        torch.testing.assert_close(head([features]), expected, rtol=1e-4, atol=1e-5)


def test_mask_transformer_s_dropout_and_start() -> None:
    head = mask_head(width=128, heads=2)
    rates = {m.p for m in head.layers.modules() if isinstance(m, nn.Dropout) and m.p > 0}
    assert rates == {head.layers[0].attn.attn.dropout} == {0.1}
    assert not [m for m in head.modules() if type(m).__name__ == 'DropPath']
    # segm/model/decoder.py: `scale * randn` with scale = d_model ** -0.5, init_weights elsewhere
    for name, parameter in head.named_parameters():
        values = parameter.detach()
        if name in ('patch_proj.weight', 'classes_proj.weight'):
            assert values.std() == pytest.approx(128**-0.5, rel=0.05), name
        elif values.ndim > 1:
            assert values.std() == pytest.approx(0.02, rel=0.1), name
        elif name.endswith('bias'):
            assert not values.any(), name


def test_dropout_before_or_after_batch_norm() -> None:
    """DINOv3 drops channels of the features, mmseg and DINOv2 of what is classified."""
    torch.manual_seed(0)
    features = torch.randn(64, 8, 2, 2) + 5
    common = dict(type='LinearSegHead', in_channels=8, num_classes=8, dropout_ratio=0.5)
    for first in (True, False):
        head = MODELS.build(dict(common, norm_cfg=dict(type='BN'), dropout_first=first)).train()
        nn.init.eye_(head.conv_seg.weight.data[:, :, 0, 0])
        nn.init.zeros_(head.conv_seg.bias)
        out = head([features])
        dropped = (out == 0).all(3).all(2)
        # a channel dropped behind the norm is exactly 0; before it, it is a value far from the mean
        assert dropped.float().mean() == pytest.approx(0.0 if first else 0.5, abs=0.1)
        if first:  # standardized with the dropped ones among them
            assert out.mean((0, 2, 3)).abs().max() < 1e-3
            assert out.std((0, 2, 3)).sub(1).abs().max() < 0.01


def test_crops_without_a_label_train_on_nothing(tmp_path: Path) -> None:
    """Every head's loss is 0 and finite, where a mean over no pixel would be no number."""
    data = {'cityscapes': write_cityscapes(tmp_path / 'a'), 'ade20k': write_ade20k(tmp_path / 'b')}
    for name in ('cityscapes/linear', 'cityscapes/mask-finetune', 'ade20k/upernet'):
        cfg = shrink(Config.fromfile(CONFIGS / f'{name}.py'))
        set_data_root(cfg, data[name.split('/')[0]])
        init_default_scope('mmseg')
        model = MODELS.build(cfg.model)
        batch = next(iter(Runner.build_dataloader(cfg.train_dataloader)))
        for sample in batch['data_samples']:
            sample.gt_sem_seg.data.fill_(255)
        losses = model(**model.data_preprocessor(batch, training=True), mode='loss')
        parts = [value for key, value in losses.items() if 'loss' in key]
        assert [part.item() for part in parts] == [0.0] * len(parts)
        torch.stack(parts).sum().backward()
        for parameter in model.parameters():
            assert parameter.grad is None or torch.isfinite(parameter.grad).all()
