"""Whole runs at toy size: loss falls, a run that is cut off ends as one that was not, records."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.hooks import Hook
from mmengine.registry import HOOKS
from timm.data import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models.vision_transformer import VisionTransformer
from torch.nn.functional import cross_entropy
from torchvision.transforms import functional as transforms

from moca.backbone import PlainViT
from moca.checkpoints.loading import load_checkpoint
from moca.errors import UserError
from moca.evaluation.classification.dataset import LabeledImages
from moca.transfer.evaluate import evaluate, prepare_test
from moca.transfer.run import train
from tests.backbone.helpers import randomize, save
from tests.configs.image_helpers import TINY_ARCH, prepare, tiny_config
from tests.evaluation.classification.conftest import write_images
from tools.test import parse_args

# 64 images are four steps of 16: 20 steps are five epochs
SHORT = dict(train_cfg__max_epochs=5, default_hooks__schedule__warmup_epochs=1)
OFTEN = dict(
    default_hooks__checkpoint__by_epoch=False,
    default_hooks__checkpoint__interval=7,
    default_hooks__checkpoint__save_last=True,
)


class CutOff(Exception):
    pass


@HOOKS.register_module(force=True)
class CutOffAfter(Hook):
    """Ends a run in the middle of an epoch."""

    priority = 'LOWEST'

    def __init__(self, step: int) -> None:
        self.step = step

    def after_train_iter(self, runner: Any, *args: Any, **kwargs: Any) -> None:
        if runner.iter == self.step:
            raise CutOff


def losses_of(folder: Path) -> list[float]:
    (path,) = folder.glob('*/vis_data/scalars.json')
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [row['loss'] for row in rows if 'lr' in row]


def weights(folder: Path) -> dict[str, Any]:
    content = torch.load(folder / 'iter_20.pth', weights_only=False)
    moments = content['optimizer']['state']
    state = {
        f'{key}.{name}': value for key, each in moments.items() for name, value in each.items()
    }
    return content['state_dict'] | state


@pytest.mark.parametrize(('name', 'rate'), [('linear-mae', 50.0), ('finetune', 0.03)])
def test_twenty_steps_and_a_run_that_is_cut_off(
    name: str, rate: float, images: Path, tmp_path: Path
) -> None:
    config = tiny_config(name, tmp_path)
    options: dict[str, Any] = {**SHORT, **OFTEN, 'optim_wrapper__optimizer__lr': rate}
    accumulate = ('--accumulate', '2') if name == 'finetune' else ()
    if accumulate:
        options['train_dataloader__batch_size'] = 8
    else:  # LARS moves weights slowly and biases fast: two steps an epoch on half of the images
        options |= dict(train_dataloader__batch_size=32, train_cfg__max_epochs=10)
        options |= dict(model__feature='avg', train_cfg__val_interval=10)
    cfg, record = prepare(config, images, tmp_path / 'whole', *accumulate, **options)
    train(cfg, record)
    losses = losses_of(tmp_path / 'whole')
    assert len(losses) == 20
    assert losses[0] == pytest.approx(math.log(4), abs=0.05)  # heads start near zero
    assert sum(losses[-4:]) / 4 < losses[0] - 0.02

    cfg, record = prepare(config, images, tmp_path / 'cut', *accumulate, **options)
    cfg.custom_hooks = [dict(type='CutOffAfter', step=9)]
    with pytest.raises(CutOff):
        train(cfg, record)
    again = prepare(config, images, tmp_path / 'cut', '--resume', *accumulate, **options)
    path = train(*again)
    ours, theirs = weights(tmp_path / 'cut'), weights(tmp_path / 'whole')
    assert ours.keys() == theirs.keys()
    for key, value in theirs.items():
        same = torch.equal(ours[key], value) if torch.is_tensor(value) else ours[key] == value
        assert same, key
    written = json.loads(path.read_text())
    assert (written['status'], written['iterations']) == ('finished', 20)
    assert (written['train_images'], written['val_images']) == (64, 12)
    assert written['metrics']['top1_best'] >= written['metrics']['top1']
    if name == 'finetune':  # the head's norm serves dense tasks as MAE's fc_norm does
        backbone = PlainViT(TINY_ARCH, img_size=16)
        load_checkpoint(backbone, tmp_path / 'whole/iter_20.pth')
        assert torch.equal(backbone.norm.weight, theirs['head.norm.weight'])


@pytest.fixture(scope='module')
def sweep(images: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished sweep on features that were computed once."""
    folder = tmp_path_factory.mktemp('sweep')
    config = tiny_config('linear-cached', folder)
    options = dict(train_cfg__max_epochs=4, default_hooks__features__folder=folder / 'features')
    cfg, record = prepare(config, images, folder / 'run', **options, **HELD_OUT)
    train(cfg, record)
    return folder


HELD_OUT = dict(
    train_dataloader__dataset__held_out=4,
    val_dataloader__dataset__held_out=4,
    test_dataloader__dataset__held_out=4,
)


def outcome(sweep: Path, images: Path, *arguments: str) -> dict[str, float | None]:
    args = parse_args(
        [
            str(sweep / 'tiny_linear-cached.py'),
            str(sweep / 'run/epoch_4.pth'),
            *('--data-root', str(images), *arguments),
        ]
    )
    return evaluate(prepare_test(args), args.checkpoint)


class TestSweep:
    def test_record(self, sweep: Path) -> None:
        record = json.loads((sweep / 'run/run.json').read_text())
        assert (record['train_images'], record['val_images']) == (4 * 12, 12)
        metrics, chosen = record['metrics'], record['chosen']
        assert metrics['top1'] == metrics['top1_best'] >= metrics['top1_last']
        assert metrics['top1_held_out'] <= metrics['top1_last']
        assert chosen['top1']['chosen_on'] == 'validation images'
        assert chosen['top1_held_out']['chosen_on'] == '16 training images held out'
        assert chosen['top1_held_out']['epoch'] == 'last'

    def test_features_are_kept_of_whole_sets(self, sweep: Path) -> None:
        """One file of the training set, held-out images among them, and one of val."""
        files = sorted(np.load(path).shape for path in (sweep / 'features').rglob('*.npy'))
        assert files == [(12, 64), (64, 64)]

    def test_images_give_what_the_cache_gave(self, sweep: Path, images: Path) -> None:
        """The test reads images: no feature is computed before it."""
        options = [f'{key.replace("__", ".")}={value}' for key, value in HELD_OUT.items()]
        found = outcome(sweep, images, '--cfg-options', *options)
        record = json.loads((sweep / 'run/run.json').read_text())
        assert found['top1_held_out'] == record['metrics']['top1_held_out']
        assert found['top1'] == record['metrics']['top1_last']

    def test_another_class_list_is_refused(self, sweep: Path, tmp_path: Path) -> None:
        write_images(tmp_path / 'val', ['ant', 'bee', 'cow', 'eel'], 2, seed=1)
        write_images(tmp_path / 'train', ['ant', 'bee', 'cow', 'eel'], 12)
        with pytest.raises(UserError, match="lacks 'dog' and also has 'eel'"):
            outcome(sweep, tmp_path)

    def test_variants_are_of_imagenet(self, sweep: Path, images: Path) -> None:
        with pytest.raises(UserError, match='is none of imagenet-a'):
            outcome(sweep, images, '--variant', 'imagenet-x')
        with pytest.raises(UserError, match="'ant' is no class of imagenet-r"):
            outcome(sweep, images / 'val', '--variant', 'imagenet-r')


class TestPublished:
    """Files of others are tested by the command that tests a run."""

    @pytest.fixture(scope='class')
    def vit(self) -> VisionTransformer:
        arch = {**TINY_ARCH, 'img_size': 16}
        model = VisionTransformer(**arch, num_classes=4, global_pool='avg')
        randomize(model)
        return model.eval()

    def measured(self, name: str, images: Path, folder: Path, *arguments: str) -> Any:
        config = tiny_config(name, folder)
        common = ('--data-root', str(images), '--work-dir', str(folder / 'test'))
        args = parse_args([str(config), *arguments, *common])
        return evaluate(prepare_test(args), args.checkpoint)

    def test_fine_tuned(self, vit: VisionTransformer, images: Path, tmp_path: Path) -> None:
        path = save({'model': vit.state_dict()}, tmp_path / 'finetuned.pth')
        found = self.measured('finetune-mae', images, tmp_path, str(path))
        dataset = LabeledImages(images, 'val', 16)
        pixels = torch.stack([dataset[i]['inputs'] for i in range(12)]) / 255
        labels = torch.tensor([dataset[i]['label'] for i in range(12)])
        normalized = transforms.normalize(pixels, IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD)
        with torch.no_grad():
            logits = vit(normalized)
        right = (logits.argmax(1) == labels).float().mean()
        assert found['top1'] == pytest.approx(100 * float(right), abs=0.01)
        assert found['loss'] == pytest.approx(float(cross_entropy(logits, labels)), abs=0.01)

    def test_heads_need_their_vit(
        self, vit: VisionTransformer, images: Path, tmp_path: Path
    ) -> None:
        head = {'state_dict': {'module.linear.weight': torch.randn(4, 64)}}
        path = str(save(head, tmp_path / 'linear.pth'))
        with pytest.raises(UserError, match='Give the file of that with --backbone'):
            self.measured('linear', images, tmp_path, path)
        state = {k: v for k, v in vit.state_dict().items() if not k.startswith(('head', 'fc_'))}
        norm = {'norm.weight': torch.ones(32), 'norm.bias': torch.zeros(32)}
        backbone = str(save(state | norm, tmp_path / 'vit.pth'))
        found = self.measured('linear', images, tmp_path, path, '--backbone', backbone)
        # of the 12 validation images alone: this head chooses nothing on training images
        assert found.keys() == {'top1', 'top5', 'loss'}
        assert 0 <= found['top1'] <= 100

    def test_a_head_alone_on_a_variant(self, vit: VisionTransformer, tmp_path: Path) -> None:
        """Tench is no class of ImageNet-R, so the goldfish comes first, whatever the image."""
        bias = torch.zeros(1000)
        bias[0], bias[1] = 2.0, 1.0
        head = {'linear.weight': torch.zeros(1000, 64), 'linear.bias': bias}
        path = str(save({'state_dict': head}, tmp_path / 'linear.pth'))
        state = {k: v for k, v in vit.state_dict().items() if not k.startswith(('head', 'fc_'))}
        norm = {'norm.weight': torch.ones(32), 'norm.bias': torch.zeros(32)}
        backbone = str(save(state | norm, tmp_path / 'vit.pth'))
        goldfish, shark = 'n01443537', 'n01484850'
        write_images(tmp_path / 'r', [goldfish], 3)
        write_images(tmp_path / 'r', [shark], 1)
        options = ('--cfg-options', 'model.head.num_classes=1000')
        arguments = (path, '--backbone', backbone, '--variant', 'imagenet-r', *options)
        found = self.measured('linear', tmp_path / 'r', tmp_path, *arguments)
        assert found['top1'] == pytest.approx(75)

    def test_another_number_of_classes(
        self, vit: VisionTransformer, images: Path, tmp_path: Path
    ) -> None:
        path = str(save({'model': vit.state_dict()}, tmp_path / 'finetuned.pth'))
        option = ('--cfg-options', 'model.head.num_classes=7')
        with pytest.raises(UserError, match='head is of 4 classes, and the config asks for 7'):
            self.measured('finetune', images, tmp_path, path, *option)
