"""mmseg's and mmdet's own ways to predict, on configs of each kind and on those of runs."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import DATASETS, MODELS, init_default_scope
from mmengine.structures import PixelData
from mmseg.apis import MMSegInferencer, inference_model, init_model

from moca.detection import CarefulDetVisualizer
from moca.errors import UserError
from moca.images.loading import LoadReadableImage
from moca.transfer.overrides import set_data_root
from moca.transfer.protocol import check_protocol
from tests.backbone.helpers import randomize
from tests.configs.helpers import (
    REPOSITORY,
    shrink,
    write_ade20k,
    write_cityscapes,
    write_coco,
    write_nyu,
    write_panoptic,
)

SEGMENTORS = {
    'segmentation/driving/linear-bn.py': write_cityscapes,
    'segmentation/cityscapes/mask-finetune.py': write_cityscapes,
    'segmentation/ade20k/upernet.py': write_ade20k,
    'segmentation/cityscapes/eomt.py': write_cityscapes,
    'depth/nyu_linear.py': write_nyu,
}
DETECTORS = (
    'detection/small-coco/mask-rcnn_sfp.py',
    'detection/coco/eomt_instance.py',
    'detection/coco/eomt_panoptic.py',
)


def as_run(name: str, data: Path, folder: Path) -> tuple[Config, str, str]:
    """A config at toy size, the same as a run dumps it, and weights as a run writes them."""
    cfg = Config.fromfile(REPOSITORY / 'configs' / name)
    set_data_root(cfg, data)
    init_default_scope(cfg.default_scope)
    shrink(cfg, 16)
    if 'panoptic' in name:
        cfg.model.test_cfg.object_mask_thr = 0.0  # of random weights
    torch.manual_seed(0)
    model = MODELS.build(cfg.model)
    randomize(model)
    meta = DATASETS.build({**cfg.test_dataloader.dataset, 'lazy_init': True}).metainfo
    weights = folder / 'iter_2.pth'
    torch.save(dict(state_dict=model.state_dict(), meta=dict(dataset_meta=meta)), weights)
    dumped = cfg.copy()
    check_protocol(dumped)
    dumped.dump(str(folder / 'config.py'))
    return cfg, str(folder / 'config.py'), str(weights)


def by_hand(model: Any, cfg: Any, path: Path) -> Any:
    """What a model makes of an image that this suite reads: load, the other steps, predict."""
    steps = [s for s in cfg.test_dataloader.dataset.pipeline if 'Load' not in s['type']]
    loaded = LoadReadableImage()(dict(img_path=str(path), img_id=0))
    with torch.no_grad():
        return model.test_step(pseudo_collate([Compose(steps)(loaded)]))[0]


def first_image(root: Path) -> Path:
    return sorted(path for path in root.rglob('*') if path.suffix in ('.jpg', '.png'))[0]


@pytest.mark.parametrize('name', SEGMENTORS)
def test_segmentors(name: str, tmp_path: Path) -> None:
    data = SEGMENTORS[name](tmp_path / 'data')
    cfg, dumped, weights = as_run(name, data, tmp_path)
    field = 'pred_depth_map' if name.startswith('depth') else 'pred_sem_seg'
    folder = {'ade20k': 'images', 'depth': 'rgb'}.get(name.split('/')[-2], 'leftImg8bit')
    path = first_image(data / folder)
    image = cv2.imread(str(path))
    for config in (cfg, dumped):
        inferencer = MMSegInferencer(config, weights, device='cpu', show_progress=False)
        expected = by_hand(inferencer.model, inferencer.cfg, path)
        values = getattr(expected, field).data[0].numpy()
        assert len(np.unique(values)) > 1 or 'upernet' in name  # of random norms
        out = tmp_path / f'out_{config is cfg}'
        for source in (str(path), image):
            found = inferencer(source, out_dir=str(out))
            assert np.array_equal(found['predictions'], values)
        assert len(list((out / 'vis').iterdir())) == 2
        model = init_model(config, weights, device='cpu')
        for source in (str(path), image):
            sample = inference_model(model, source)
            assert torch.equal(getattr(sample, field).data, getattr(expected, field).data)


@pytest.mark.parametrize('name', DETECTORS)
def test_detectors(name: str, tmp_path: Path) -> None:
    data = write_panoptic(write_coco(tmp_path / 'data'))
    cfg, dumped, weights = as_run(name, data, tmp_path)
    path = first_image(data / 'val2017')
    image = cv2.imread(str(path))
    for config in (cfg, dumped):
        with warnings.catch_warnings():
            warnings.simplefilter('ignore')
            inferencer = DetInferencer(config, weights, device='cpu', show_progress=False)
        model = init_detector(config, weights, device='cpu')
        expected = by_hand(model, model.cfg, path)
        out = tmp_path / f'out_{config is cfg}'
        for source in (str(path), image):
            found = inferencer(source, out_dir=str(out), return_datasamples=True)['predictions'][0]
            same(found, expected)
            same(inference_detector(model, source), expected)
        assert len(list((out / 'vis').iterdir())) == 2


def test_a_panoptic_image_without_segments_is_drawn() -> None:
    image = np.full((8, 8, 3), 7, np.uint8)
    sample = DetDataSample(pred_panoptic_seg=PixelData(sem_seg=torch.full((1, 8, 8), 2)))
    visualizer = CarefulDetVisualizer()
    visualizer.dataset_meta = dict(classes=('a', 'b'), palette=[(1, 2, 3), (4, 5, 6)])
    visualizer.add_datasample('image', image, sample, draw_gt=False)
    assert np.array_equal(visualizer.get_image(), image)


def same(found: Any, expected: Any) -> None:
    for field in ('pred_instances', 'pred_panoptic_seg'):
        if field in expected:
            for key, value in getattr(expected, field).items():
                assert torch.equal(getattr(getattr(found, field), key), value), key


@pytest.mark.parametrize('shape', [(4, 6), (4, 6, 3)])
def test_arrays(shape: tuple[int, ...]) -> None:
    image = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    loaded = LoadReadableImage().transform(image)
    assert loaded is not None
    assert loaded['img'].shape == (4, 6, 3)
    assert loaded['ori_shape'] == loaded['img_shape'] == (4, 6)
    assert np.array_equal(loaded['img'][..., 0], image if image.ndim == 2 else image[..., 0])


@pytest.mark.parametrize(
    'image', [np.zeros((4, 6, 4), np.uint8), np.zeros((4, 6, 3)), np.zeros((0, 6, 3), np.uint8)]
)
def test_arrays_that_are_no_images(image: Any) -> None:
    with pytest.raises(UserError, match=r'\[H, W, 3\] of uint8'):
        LoadReadableImage().transform(image)
