"""Loading what was trained, and what it says of images in memory and in files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from mmengine.config import Config
from mmengine.dataset import Compose, pseudo_collate
from mmengine.registry import MODELS, DefaultScope
from PIL import Image

import moca
from moca.errors import CheckpointMismatch, UserError
from moca.predict.backbones import load_backbone
from moca.predict.pixels import as_pixels
from moca.predict.predictor import Predictor, load, panoptic_of
from moca.predict.trained import load_trained
from tests.predict.conftest import write_run

RunOf = Callable[[str], Path]
FIELDS = {
    'segmentation': ('mask',),
    'detection': ('boxes', 'labels', 'scores', 'masks'),
    'panoptic': ('ids', 'segments'),
    'depth': ('meters',),
    'image': ('label', 'scores'),
}


def by_the_libraries(folder: Path, task: str, path: Path) -> Any:
    """The data sample of an image, from the run's files alone and mmcv's reading of the image."""
    cfg = Config.fromfile(folder / f'{task}.py')
    steps = [
        step
        for step in cfg.test_dataloader.dataset.pipeline
        if not step['type'].endswith('Annotations') and step['type'] != 'LoadPanopticMasks'
    ]
    for step in steps:
        if step['type'] == 'LoadReadableImage':
            step['type'] = 'LoadImageFromFile'
    with DefaultScope.overwrite_default_scope(cfg.default_scope):
        model = MODELS.build(cfg.model)
        model.load_state_dict(torch.load(folder / 'iter_1.pth', weights_only=False)['state_dict'])
        sample = Compose(steps)(dict(img_path=str(path), img_id=0))
        with torch.no_grad():
            return model.eval().test_step(pseudo_collate([sample]))[0]


def same(one: Any, other: Any, task: str) -> None:
    for name in FIELDS[task]:
        ours, theirs = getattr(one, name), getattr(other, name)
        if isinstance(ours, np.ndarray) and ours.dtype.kind == 'f':
            np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)
        else:
            assert np.array_equal(ours, theirs), name


def test_a_segmentor_says_what_mmseg_says(run_of: RunOf, images: Path) -> None:
    path = images / 'a/0.png'
    truth = by_the_libraries(run_of('segmentation'), 'segmentation', path)
    found: Any = load(run_of('segmentation')).predict(path)
    assert found.mask.shape == (48, 64)
    assert np.array_equal(found.mask, truth.pred_sem_seg.data[0].numpy())
    assert len(np.unique(found.mask)) > 1
    assert len(found.classes) == 150
    assert found.classes[0] == 'wall'


def test_a_detector_says_what_mmdet_says(run_of: RunOf, images: Path) -> None:
    path = images / 'b/0.png'
    truth = by_the_libraries(run_of('detection'), 'detection', path).pred_instances
    found: Any = load(run_of('detection')).predict(path)
    assert len(found.boxes) == len(truth) > 0
    order = truth.scores.argsort(descending=True, stable=True)
    np.testing.assert_allclose(found.boxes, truth.bboxes[order], atol=1e-4)
    np.testing.assert_allclose(found.scores, truth.scores[order], atol=1e-6)
    assert found.labels.tolist() == truth.labels[order].tolist()
    assert np.array_equal(found.masks, np.asarray(truth.masks[order], bool))
    assert found.masks.shape[1:] == (70, 40)
    assert found.classes[0] == 'person'


def test_panoptic_segments_are_those_of_mmdet(run_of: RunOf, images: Path) -> None:
    path = images / 'a/1.png'
    truth = by_the_libraries(run_of('panoptic'), 'panoptic', path).pred_panoptic_seg.sem_seg[0]
    model = load(run_of('panoptic'))
    found: Any = model.predict(path)
    assert model.task == 'panoptic'
    assert found.segments
    for segment in found.segments:
        (number,) = np.unique(truth[torch.from_numpy(found.ids == segment.id)])
        assert number % 1000 == segment.label
        assert segment.is_thing == (segment.label < 80)
    assert np.array_equal(found.ids == 0, truth % 1000 >= 133)


def test_what_is_shown_of_a_model_and_of_what_it_found(run_of: RunOf, images: Path) -> None:
    model = load(run_of('detection'))
    shown = repr(model)
    assert 'task: detection\n  classes: 80 (person, bicycle, car ...)\n' in shown
    assert f'checkpoint: {run_of("detection")}/iter_1.pth\n' in shown
    scale = model.trained.dataset['pipeline'][1]['scale']
    assert f'sees: images within {scale[0]} x {scale[1]} pixels\n' in shown
    depth = load(run_of('depth'))
    assert 'classes' not in repr(depth)
    assert repr(depth.predict(images / 'a/0.png')) == 'Depth(meters=float32 [48, 64])'


def test_segments_of_a_map_by_hand() -> None:
    numbers = np.array([[2, 2, 1000], [3, 2000, 1000]])  # class 0 twice, 2 of stuff, 3 is void
    found = panoptic_of(numbers, ('cat', 'dog', 'sky'), 2)
    assert [(s.id, s.label, s.is_thing) for s in found.segments] == [
        (1, 2, False),
        (2, 0, True),
        (3, 0, True),
    ]
    assert found.ids.tolist() == [[1, 1, 2], [0, 3, 2]]


def test_depth_is_what_mmseg_says(run_of: RunOf, images: Path) -> None:
    path = images / 'a/0.png'
    truth = by_the_libraries(run_of('depth'), 'depth', path).pred_depth_map.data[0]
    found: Any = load(run_of('depth')).predict(path)
    assert found.meters.shape == (48, 64)
    np.testing.assert_allclose(found.meters, truth, atol=1e-4)


def test_classes_of_images(run_of: RunOf, images: Path) -> None:
    found: Any = load(run_of('image')).predict(images / 'a/0.png')
    assert found.classes == tuple('abcdef')
    assert found.scores.sum() == pytest.approx(1, abs=1e-5)
    assert found.label == found.scores.argmax()


@pytest.mark.parametrize('task', list(FIELDS))
def test_images_of_any_size_and_kind_go_together(run_of: RunOf, images: Path, task: str) -> None:
    model = load(run_of(task))
    paths = sorted(images.rglob('*.png'))
    rgb, gray = np.asarray(Image.open(paths[0])), np.asarray(Image.open(paths[2]))
    assert gray.ndim == 2
    alpha = np.dstack([rgb, np.full(rgb.shape[:2], 7, np.uint8)])
    deep = gray.astype(np.uint16) * 257
    together = model.predict([paths[0], gray, alpha, deep, rgb], batch=5)
    assert len(together) == 5
    for one, other in ((0, 2), (0, 4), (1, 3)):
        same(together[one], together[other], task)
    same(together[0], model.predict(rgb), task)
    same(together[1], model.predict(str(paths[2])), task)


def test_arrays_are_rgb(images: Path) -> None:
    rgb = np.asarray(Image.open(images / 'a/0.png'))
    assert np.array_equal(as_pixels(rgb), as_pixels(images / 'a/0.png'))
    assert np.array_equal(as_pixels(rgb / np.float32(255)), rgb)
    pillow = Image.open(images / 'a/0.png')
    assert np.array_equal(as_pixels(pillow), rgb)
    palette = pillow.quantize(colors=8)
    assert np.array_equal(as_pixels(palette), np.asarray(palette.convert('RGB')))
    assert np.array_equal(
        as_pixels(pillow.convert('L')), as_pixels(np.asarray(pillow.convert('L')))
    )


@pytest.mark.parametrize(
    ('array', 'why'),
    [
        (np.zeros((3, 8, 8), np.uint8), r'shape \(3, 8, 8\) is no image'),
        (np.zeros((0, 8, 3), np.uint8), 'is no image'),
        (np.full((8, 8), -1), 'values from -1 to -1'),
        (np.zeros((8, 8), complex), 'complex128'),
    ],
)
def test_what_is_no_image(array: Any, why: str) -> None:
    with pytest.raises(UserError, match=why):
        as_pixels(array)


def test_no_images_are_no_results(run_of: RunOf) -> None:
    model = load(run_of('segmentation'))
    assert model.predict([]) == []
    with pytest.raises(UserError, match='batch=0'):
        model.predict([], batch=0)


def test_a_checkpoint_says_its_config(run_of: RunOf, images: Path, tmp_path: Path) -> None:
    folder = run_of('segmentation')
    path = tmp_path / 'elsewhere.pth'
    shutil.copy(folder / 'iter_1.pth', path)
    whole: Any = moca.load(folder)
    for source, config in ((path, None), (path, folder / 'segmentation.py')):
        same(
            moca.load(source, config).predict(images / 'a/0.png'),
            whole.predict(images / 'a/0.png'),
            'segmentation',
        )


def test_windows_and_augmentation_change_what_is_said(run_of: RunOf, images: Path) -> None:
    folder, path = run_of('segmentation'), images / 'a/0.png'
    plain: Any = load(folder).predict(path)
    slid = load(folder, window=32)
    assert slid.trained.cfg.model.test_cfg.crop_size == (32, 32)
    flipped: Any = load(folder, tta=True).predict([path, images / 'b/0.png'], batch=2)
    assert flipped[0].mask.shape == plain.mask.shape
    for found in (slid.predict(path), flipped[0]):
        assert not np.array_equal(found.mask, plain.mask)
    half: Any = load(folder, amp=True).predict(path)
    assert (half.mask == plain.mask).mean() > 0.8


def test_what_was_not_trained_is_refused(run_of: RunOf, tmp_path: Path) -> None:
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no checkpoint in there'):
        load(tmp_path / 'empty')
    with pytest.raises(UserError, match='no such file or folder'):
        load(tmp_path / 'nowhere.pth')
    with pytest.raises(UserError, match='a config alone'):
        load(run_of('depth') / 'depth.py')
    with pytest.raises(CheckpointMismatch, match='of another model than the config'):
        load(run_of('depth') / 'iter_1.pth', run_of('segmentation') / 'segmentation.py')
    with pytest.raises(UserError, match='--window 32'):
        load(run_of('detection'), window=32)
    with pytest.raises(UserError, match='no tta'):
        load(run_of('depth'), tta=True)
    weights = torch.load(run_of('depth') / 'iter_1.pth', weights_only=False)['state_dict']
    torch.save(dict(state_dict=weights), tmp_path / 'bare.pth')
    with pytest.raises(UserError, match='does not say its config'):
        load(tmp_path / 'bare.pth')
    torch.save({key.removeprefix('backbone.'): v for key, v in weights.items()}, tmp_path / 'vit')
    with pytest.raises(UserError, match='vit: not a checkpoint of a run'):
        load(tmp_path / 'vit', run_of('depth') / 'depth.py')
    with pytest.raises(UserError, match='--arch vit_tiny_patch16: of published models'):
        load(run_of('depth'), arch='vit_tiny_patch16')


@pytest.mark.parametrize('device', ['banana', 'cuda:99', 'meta'])
def test_a_device_is_looked_at_first(device: str, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f'^device {device}: cannot be used here'):
        load(tmp_path / 'nowhere.pth', device=device)
    with pytest.raises(UserError, match=f'^device {device}: cannot be used here'):
        load_backbone(tmp_path / 'nowhere.pth', device=device)


def test_names_in_a_checkpoint_of_another_model(run_of: RunOf, tmp_path: Path) -> None:
    meta = dict(dataset_meta=dict(classes=('a', 'b')))
    torch.save(dict(state_dict={}, meta=meta), tmp_path / 'iter_1.pth')
    with pytest.raises(UserError, match='150 classes, and the checkpoint is of a model of 2'):
        load(tmp_path / 'iter_1.pth', run_of('segmentation') / 'segmentation.py')


def test_classes_without_names_are_numbered(run_of: RunOf, tmp_path: Path) -> None:
    source = run_of('segmentation')
    shutil.copy(source / 'iter_1.pth', tmp_path)
    cfg = Config.fromfile(source / 'segmentation.py')
    cfg.test_dataloader.dataset.type = 'BaseSegDataset'
    cfg.dump(tmp_path / 'own.py')
    trained = load_trained(tmp_path)
    assert trained.classes[:2] == ('class 0', 'class 1')
    assert len(trained.classes) == len(trained.palette) == 150
    cfg.test_dataloader.dataset.metainfo = dict(classes=('a', 'b'))
    cfg.dump(tmp_path / 'own.py')
    with pytest.raises(UserError, match='150 classes, and 2 names'):
        load_trained(tmp_path)


def test_no_state_of_mmengine_is_left_behind(run_of: RunOf) -> None:
    before = DefaultScope.get_current_instance()
    assert isinstance(load(run_of('detection')), Predictor)
    assert DefaultScope.get_current_instance() is before


def test_a_published_mask_transformer_is_loaded_with_a_config(images: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / 'run', 'mask transformer')
    state = torch.load(run / 'iter_1.pth', weights_only=False)['state_dict']
    theirs = {
        key.replace('network.backbone.', 'network.encoder.backbone.'): value
        for key, value in state.items()
        if key.startswith('network.')
    }
    torch.save(dict(state_dict=theirs), tmp_path / 'published.bin')
    (config,) = run.glob('*.py')
    found: Any = load(tmp_path / 'published.bin', config).predict(images / 'a/0.png')
    whole: Any = load(run).predict(images / 'a/0.png')
    assert np.array_equal(found.mask, whole.mask)
    assert len(np.unique(found.mask)) > 1
    with pytest.raises(UserError, match='does not say its config'):
        load(tmp_path / 'published.bin')
    with pytest.raises(UserError, match='as large as its training images'):
        load(run, window=32)


def test_of_several_heads_the_chosen_one_speaks(images: Path, tmp_path: Path) -> None:
    run = write_run(tmp_path / 'run', 'sweep')
    with pytest.raises(UserError, match='which of the heads was chosen'):
        load(run)
    (run / 'run.json').write_text(json.dumps({'chosen': {'last': {'rate': 0.1}}}))
    model = load(run)
    found: Any = model.predict(images / 'a/0.png')
    inner = model.trained.model
    with torch.no_grad():
        data = dict(inputs=model._input(as_pixels(images / 'a/0.png'))['inputs'][None])
        logits = inner.head(inner.features(inner.data_preprocessor(data)['inputs']))
    assert logits.shape == (2, 1, 6)
    np.testing.assert_allclose(found.scores, logits[1, 0].softmax(0), atol=1e-5)
