"""Published files: those of transformers make the same predictions here, and the same loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import torch
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from safetensors import safe_open
from torch import Tensor

from moca.backbone import PlainViT
from moca.checkpoints import load_checkpoint
from moca.checkpoints.loading import inspect_checkpoint
from moca.eomt.loss import MaskLoss
from moca.eomt.network import MaskTransformer
from moca.eomt.published import load_heads
from moca.errors import CheckpointMismatch, UserError
from moca.transfer.evaluate import prepare_test
from tests.configs.helpers import REPOSITORY, write_cityscapes
from tests.eomt.tiny import ARCH, tiny_network, two_targets
from tools.test import parse_args

transformers = pytest.importorskip('transformers')
SETTINGS: dict[str, Any] = dict(
    hidden_size=32,
    num_hidden_layers=4,
    num_attention_heads=2,
    image_size=64,
    patch_size=16,
    num_blocks=2,
    num_queries=5,
    num_register_tokens=2,
    num_labels=19,
    num_upscale_blocks=2,
    train_num_points=300,
)
MODELS = {
    'eomt': lambda: transformers.EomtForUniversalSegmentation(transformers.EomtConfig(**SETTINGS)),
    'eomt_dinov3': lambda: transformers.EomtDinov3ForUniversalSegmentation(
        transformers.EomtDinov3Config(**SETTINGS, intermediate_size=128, pos_embed_rescale=None)
    ),
}


@pytest.fixture(scope='module', params=MODELS)
def original(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    """transformers' model, with weights far from their start, and its folder."""
    torch.manual_seed(0)
    model = MODELS[request.param]()
    for name, parameter in model.named_parameters():
        torch.nn.init.normal_(parameter, 1.0 if 'norm' in name else 0.0, 0.2)
    folder = tmp_path_factory.mktemp(request.param)
    model.save_pretrained(folder)
    return model, folder


def loaded(folder: Path) -> MaskTransformer:
    arch = inspect_checkpoint(folder).arch
    assert isinstance(arch, dict)
    network = MaskTransformer(PlainViT(arch, img_size=64), 19, 5, 2)
    load_checkpoint(network.backbone, folder)
    load_heads(network, folder)
    return network


def test_predictions_and_losses_are_the_same(original: tuple[Any, Path]) -> None:
    model, folder = original
    network, images = loaded(folder), torch.randn(2, 3, 64, 64)
    found: list[tuple[Tensor, Tensor]] = []
    predict = model.predict
    model.predict = lambda x: found.append(predict(x)) or found[-1]
    truth = two_targets()
    labels = dict(
        mask_labels=[each.masks.float() for each in truth],
        class_labels=[each.labels for each in truth],
    )
    model.train()
    torch.manual_seed(1)
    theirs = model(images, **labels)
    network.train()
    ours = network(images)
    torch.manual_seed(1)
    losses = MaskLoss(19, 5, 300)(ours, truth)
    del model.predict
    assert len(found) == len(ours.masks) == 3
    for number, (masks, classes) in enumerate(found):
        torch.testing.assert_close(ours.masks[number], masks, rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(ours.classes[number], classes, rtol=1e-4, atol=1e-4)
    total = torch.stack([value.sum() for value in losses.values()]).sum()
    torch.testing.assert_close(total, theirs.loss, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize('probs', [[0.0, 1.0], [1.0, 0.0]])
def test_masks_of_some_blocks_are_the_same(original: tuple[Any, Path], probs: list[float]) -> None:
    model, folder = original
    network, images = loaded(folder), torch.randn(2, 3, 64, 64)
    network.set_mask_probs(probs)
    before = model.attn_mask_probs.clone()
    model.attn_mask_probs.copy_(torch.tensor(probs))
    with torch.no_grad():
        theirs, ours = model.train()(images), network.train()(images)
    model.attn_mask_probs.copy_(before)
    torch.testing.assert_close(ours.masks[-1], theirs.masks_queries_logits, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(ours.classes[-1], theirs.class_queries_logits, rtol=1e-4, atol=1e-4)


def test_differences_are_added(original: tuple[Any, Path], tmp_path: Path) -> None:
    """The authors' files on DINOv3 hold differences to the backbone of transformers."""
    _, folder = original
    network = loaded(folder)
    base = PlainViT(inspect_checkpoint(folder).arch, img_size=64)
    torch.save(base.state_dict(), tmp_path / 'base.pth')
    state = {
        f'network.{key}'.replace('.backbone.', '.encoder.backbone.'): value
        - base.state_dict().get(key.removeprefix('backbone.'), torch.zeros(()))
        for key, value in network.state_dict().items()
    }
    for key in state:  # small differences, as fine-tuning makes them
        if 'norm' in key and 'backbone' in key:
            state[key] = state[key] * 0.01
    torch.save(dict(state_dict=state), tmp_path / 'delta.pth')
    arch = inspect_checkpoint(folder).arch
    fresh = MaskTransformer(PlainViT(arch, img_size=64), 19, 5, 2)
    with pytest.raises(UserError, match='near 0, as in files of differences'):
        load_checkpoint(fresh.backbone, tmp_path / 'delta.pth')
    load_checkpoint(fresh.backbone, tmp_path / 'delta.pth', delta_of=tmp_path / 'base.pth')
    load_heads(fresh, tmp_path / 'delta.pth')
    for key, value in fresh.state_dict().items():
        if 'norm' not in key or 'backbone' not in key:
            torch.testing.assert_close(value, network.state_dict()[key], rtol=1e-5, atol=1e-6)
    other = PlainViT({**arch, 'depth': 3} if isinstance(arch, dict) else arch, img_size=64)
    torch.save(other.state_dict(), tmp_path / 'other.pth')
    with pytest.raises(UserError, match='differences to another model'):
        load_checkpoint(fresh.backbone, tmp_path / 'delta.pth', delta_of=tmp_path / 'other.pth')


def test_other_numbers_of_classes_start_anew_or_are_refused(original: tuple[Any, Path]) -> None:
    _, folder = original
    network = tiny_network(classes=7)
    before = network.class_head.weight.clone()
    with pytest.raises(
        CheckpointMismatch, match=r'class_head.bias \(\[20\] in the file, \[8\] here'
    ):
        load_heads(network, folder)
    load_heads(network, folder, partly=True)
    assert torch.equal(network.class_head.weight, before)
    assert torch.equal(network.q.weight, loaded(folder).q.weight)


def test_a_published_file_is_tested(original: tuple[Any, Path], tmp_path: Path) -> None:
    """By the command line: its own queries, blocks and architecture."""
    _, folder = original
    data = write_cityscapes(tmp_path / 'data')
    config = tmp_path / 'eomt.py'
    config.write_text(
        f"""_base_ = ['{REPOSITORY}/configs/segmentation/cityscapes/eomt.py']
test_dataloader = dict(num_workers=0, persistent_workers=False)
model = dict(
    backbone=dict(img_size=64), test_cfg=dict(size=64)
)
"""
    )
    size = 'test_dataloader.dataset.pipeline.1.scale=(100000,64)'
    arguments = [str(config), str(folder), '--arch', 'auto', '--data-root', str(data)]
    arguments += ['--work-dir', str(tmp_path / 'work'), '--cfg-options', size]
    cfg = prepare_test(parse_args(arguments))
    assert (cfg.model.decode_head.num_queries, cfg.model.decode_head.num_blocks) == (5, 2)
    runner = Runner.from_cfg(cfg)
    with mock.patch('moca.checkpoints.reading.safe_open', wraps=safe_open) as opened:
        runner.model.init_weights()
    assert opened.call_count == 1
    state = runner.model.network.state_dict()
    for key, value in loaded(folder).state_dict().items():
        if 'pos_embed' not in key:
            assert torch.equal(state[key], value), key
    assert 0 <= runner.test()['mIoU_present'] <= 100
    torch.save(dict(state_dict=PlainViT(ARCH, img_size=64).state_dict()), tmp_path / 'vit.pth')
    arguments = [str(config), str(tmp_path / 'vit.pth'), '--data-root', str(data)]
    with pytest.raises(UserError, match='neither a checkpoint of a run nor a published'):
        prepare_test(parse_args(arguments))


def test_probabilities_come_with_the_weights() -> None:
    """A trained network predicts once, wherever it is loaded."""
    trained, fresh = tiny_network(), tiny_network()
    trained.set_mask_probs([0.0, 0.0])
    fresh.load_state_dict(trained.state_dict())
    assert len(fresh.eval()(torch.randn(1, 3, 64, 64)).masks) == 1
    assert isinstance(two_targets()[0], InstanceData)
