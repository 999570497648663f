"""The benchmarks of segmentation: what they compare is the same, what they print is measured."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import pytest
import torch
from mmengine.config import Config
from mmengine.registry import MODELS, init_default_scope
from torch import Tensor

from moca.backbone import PlainViT
from moca.errors import UserError
from tests.backbone.helpers import randomize
from tests.configs.helpers import REPOSITORY, TINY_ARCH, shrink, write_cityscapes
from tools.benchmarks import __main__ as benchmark
from tools.benchmarks import segmentor
from tools.benchmarks.segmentor import measure_training
from tools.benchmarks.segmentor_models import mmseg_segmentor, what_mmseg_lacks
from tools.benchmarks.slide import THEIR_SLIDE, THEIRS, Workload, measure_slide
from tools.benchmarks.table import OURS, Table, Version

CPU = torch.device('cpu')
CONFIGS = REPOSITORY / 'configs/segmentation'


def tiny(name: str, **arch: Any) -> Config:
    """A config at toy size, as every test of configs has it."""
    # twelve blocks, for mmseg's ViT returns the map of a block once
    cfg = shrink(Config.fromfile(CONFIGS / name), arch=TINY_ARCH | dict(depth=12) | arch)
    init_default_scope('mmseg')
    return cfg


def built(cfg: Config) -> Any:
    """Our segmentor with every parameter away from its first value."""
    model = MODELS.build(cfg.model)
    model.init_weights()
    randomize(model)
    return model


class TestSegmentorOfMmseg:
    @pytest.mark.parametrize('name', ['ade20k/upernet.py', 'cityscapes/linear.py'])
    @pytest.mark.parametrize('layer_scale', [None, 0.1])
    def test_is_the_same_function(self, name: str, layer_scale: float | None) -> None:
        cfg = tiny(name, init_values=layer_scale)
        ours = built(cfg)
        assert what_mmseg_lacks(ours.backbone) is None
        theirs = mmseg_segmentor(cfg, ours, own_backbone=True)
        assert not isinstance(theirs.backbone, PlainViT)
        image = torch.randn(1, 3, *cfg.model.data_preprocessor['size'])
        with torch.no_grad():
            expected = theirs.eval().encode_decode(image, [{'img_shape': image.shape[2:]}])
            found = ours.eval().encode_decode(image, [{'img_shape': image.shape[2:]}])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)

    def test_names_what_it_lacks(self) -> None:
        vit = PlainViT(arch=dict(TINY_ARCH, reg_tokens=2), out_indices=(3,))
        assert what_mmseg_lacks(vit) == 'register tokens'
        vit = PlainViT(arch=dict(TINY_ARCH), out_indices=(2, 3))
        assert what_mmseg_lacks(vit) == 'the final norm on several maps'
        vit = PlainViT(arch=dict(TINY_ARCH), window_size=2, out_indices=(3,))
        assert what_mmseg_lacks(vit) == 'blocks of this kind'


class TestSlide:
    def test_every_version_finds_the_same_classes(self) -> None:
        table = measure_slide(
            tiny('ade20k/upernet.py'), Workload(2, (80, 112), 'float32', CPU), None
        )
        assert list(table.versions) == [THEIRS, THEIR_SLIDE, OURS]
        for version in table.versions.values():
            assert len(version.seconds) == 2
            assert version.bytes > 0
            assert version.score is None
            assert version.same == pytest.approx(1, abs=1e-3)

    def test_mean_iou_of_the_test_set_is_equal(self, tmp_path: Path) -> None:
        cfg = tiny('cityscapes/linear.py')
        root = str(write_cityscapes(tmp_path))
        cfg.test_dataloader.dataset.data_root = root
        model = built(cfg)
        with torch.no_grad():
            model.decode_head.conv_seg.bias[0] = 9  # road everywhere, which is right in places
        torch.save({'state_dict': model.state_dict()}, tmp_path / 'iter_1.pth')
        work = Workload(2, None, 'float32', CPU)
        table = measure_slide(cfg, work, tmp_path / 'iter_1.pth')
        labels = [cv2.imread(str(path), 0) for path in tmp_path.glob('gtFine/val/*/*.png')]
        road = sum((label == 0).sum() for label in labels)
        expected = road / sum((label != 255).sum() for label in labels)
        # over road, which is predicted, and car, which is not
        for version in table.versions.values():
            assert version.score == pytest.approx(100 * expected / 2, abs=0.01)

    def test_refuses_what_has_no_windows(self) -> None:
        cfg = tiny('driving/linear-bn.py')
        with pytest.raises(UserError, match='slide'):
            measure_slide(cfg, Workload(1, None, 'float32', CPU), None)


class TestTraining:
    def test_first_losses_are_equal_and_freezing_saves_memory(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cfg = tiny('ade20k/upernet.py')
        # chance differs between the versions, which draw in another order
        cfg.model.backbone.drop_path_rate = 0.0
        cfg.model.decode_head.dropout_ratio = cfg.model.auxiliary_head.dropout_ratio = 0.0
        first: list[Tensor] = []
        whole_step = segmentor.training_step

        def watched(*args: Any) -> Callable[[int], object]:
            step = whole_step(*args)

            def call(number: int) -> object:
                losses: Any = step(number)
                if number == 0:
                    first.append(losses['loss'])
                return losses

            return call

        monkeypatch.setattr(segmentor, 'training_step', watched)
        table = measure_training(cfg, 2, 2, 'float32', CPU, real=False)
        theirs, ours, frozen = first[:3]
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=0)
        torch.testing.assert_close(ours, frozen, rtol=1e-4, atol=0)
        memory = {name: version.bytes for name, version in table.versions.items()}
        assert list(memory) == ['mmseg', 'ours', 'ours, frozen']
        assert memory['ours, frozen'] < memory['ours'] <= memory['mmseg']

    def test_refuses_one_image_for_a_batch_norm_over_pooled_maps(self) -> None:
        with pytest.raises(UserError, match=r'--batch-size 1.* 2 or more'):
            measure_training(tiny('ade20k/upernet.py'), 1, 1, 'float32', CPU, real=False)

    def test_refuses_no_images(self) -> None:
        with pytest.raises(UserError, match='--batch-size 0'):
            measure_training(Config(), 0, 1, 'float32', CPU, real=False)


def test_ratios_are_medians_over_turns() -> None:
    table = Table('t', 2, {'theirs': Version([4.0, 9.0, 2.0], 40), OURS: Version([2.0, 3, 2], 10)})
    assert table.speedup('theirs') == 2.0
    assert table.memory_ratio('theirs') == 0.25
    assert re.search(r'ours / theirs +2\.000 +0\.250', str(table))


def test_command_takes_real_images(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    root = write_cityscapes(tmp_path)
    config = tmp_path / 'toy.py'
    tiny('cityscapes/linear.py').dump(config)
    benchmark.main(['segmentor', str(config), f'--data-root={root}', '--steps=1', '--device=cpu'])
    assert 'ours, not frozen' in capsys.readouterr().out
