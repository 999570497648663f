"""Images with depth: lists, loading, augmentation, and what the check before a run finds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from mmengine.config import Config
from mmengine.registry import DATASETS, init_default_scope

from moca.data.depth_check import unit_fault
from moca.data.survey import check_data
from moca.depth.transforms import CutFrame, RandomDepthColors
from moca.errors import UserError
from moca.transfer.overrides import set_data_root
from moca.transfer.protocol import check_depth_padding
from tests.configs.helpers import REPOSITORY, write_nyu
from tests.depth.rooms import write_rooms


@pytest.fixture(scope='module')
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp('depth')
    write_rooms(root / 'own', 3, 2)
    write_nyu(root / 'nyu')
    return root


@pytest.fixture
def root(written: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return Path(shutil.copytree(written, tmp_path / 'data'))


def config(name: str, root: Path) -> Config:
    cfg = Config.fromfile(REPOSITORY / f'configs/depth/{name}.py')
    set_data_root(cfg, root)
    init_default_scope('mmseg')
    return cfg


def stored(path: Path) -> Any:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_training_images_of_nyu_keep_image_and_depth_together(root: Path) -> None:
    """Image and depth are painted alike, so that they have to agree after every transform."""
    image, depth = root / 'nyu/rgb/train/room_000.png', root / 'nyu/sync_depth/train/room_000.png'
    ramp = np.add.outer(np.linspace(500, 2500, 480), np.linspace(500, 3500, 640)).astype(np.uint16)
    cv2.imwrite(str(depth), ramp)
    cv2.imwrite(str(image), np.repeat((ramp / 30).astype(np.uint8)[..., None], 3, axis=2))
    cfg = config('nyu_linear', root / 'nyu')
    dataset = cfg.train_dataloader.dataset
    dataset.pipeline = [s for s in dataset.pipeline if s['type'] not in ('RandomDepthColors',)]
    built = DATASETS.build(dataset)
    assert len(built) == 4
    for _ in range(4):
        found = built[0]
        picture, truth = found['inputs'], found['data_samples'].gt_depth_map.data
        assert picture.shape[1:] == truth.shape[1:] == (416, 544)
        assert truth.max() <= 6
        both = (picture[0] > 0) & (truth[0] > 0)
        assert both.float().mean() > 0.9
        gap = (picture[0] - truth[0] * 1000 / 30).abs()[both]
        assert gap.median() < 2  # a rotation smooths the image alone
    # what lies outside of a rotated image is no depth
    dataset.pipeline = [s for s in dataset.pipeline if s['type'] != 'RandomCrop']
    rotate = next(step for step in dataset.pipeline if step['type'] == 'RandomRotate')
    rotate.update(prob=1.0, degree=(2.5, 2.6))
    turned = DATASETS.build(dataset)[0]['data_samples'].gt_depth_map.data[0]
    assert turned.shape == (472 - 45, 608 - 43)
    assert turned[0, 0] == turned[-1, -1] == 0


def test_folders_of_mmsegs_converter_are_read_as_well(tmp_path: Path) -> None:
    folders = ('images', 'annotations')
    write_rooms(tmp_path, 2, 1, (120, 160), folders, ('train', 'test'), '.jpg', times=4)
    cfg = config('nyu_linear', tmp_path)
    check_data(cfg)
    built = DATASETS.build(cfg.train_dataloader.dataset)
    names = [Path(built.get_data_info(index)['img_path']).name for index in range(len(built))]
    assert names == ['room_000.jpg', 'room_001.jpg']


def test_lines_without_depth_are_left_out(root: Path) -> None:
    path = root / 'nyu/nyu_train.txt'
    lines = path.read_text().splitlines()
    path.write_text('\n'.join([lines[0], f'{lines[1].split()[0]} None 518.8', '', *lines[2:]]))
    cfg = config('nyu_linear', root / 'nyu')
    check_data(cfg)
    assert len(DATASETS.build(cfg.train_dataloader.dataset)) == 3


def times(factor: float) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        for path in folder.iterdir():
            cv2.imwrite(str(path), (stored(path) * factor).astype(np.uint16))

    return change


def halved(path: Path) -> None:
    cv2.imwrite(str(path), stored(path)[::2, ::2])


def colors(path: Path) -> None:
    cv2.imwrite(str(path), np.zeros((112, 140, 3), np.uint8))


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:200])


DEPTH = 'own/depth/train'


@pytest.mark.parametrize(
    ('name', 'path', 'damage', 'message'),
    [
        ('own', DEPTH, times(1e-3), r'room_000\.png.*They look like meters.*rescale_factor=1 '),
        ('own', DEPTH, times(0), r'room_000\.png: all zero.*all 3 depth maps of train_data'),
        ('own', f'{DEPTH}/room_001.png', halved, r'room_001\.png: is 70 x 56, its image 140 x 112'),
        ('own', f'{DEPTH}/room_001.png', colors, r'room_001\.png: holds colors'),
        ('own', f'{DEPTH}/room_002.png', cut, r'room_002\.png: a broken image'),
        ('own', f'{DEPTH}/room_001.png', Path.unlink, r'1 of 3 files are missing.*room_001\.png'),
        ('own', DEPTH, shutil.rmtree, r'depth/train: no such folder.*--data-root'),
        ('nyu', 'nyu/sync_depth/test/room_001.png', Path.unlink, r'of .*nyu_test\.txt.*room_001'),
        ('nyu', 'nyu/nyu_test.txt', Path.unlink, r'images/test.*and no list .*nyu_test\.txt'),
        (
            'nyu',
            'nyu/nyu_train.txt',
            lambda path: path.write_text('a.png b.png 1 2\n'),
            r"nyu_train\.txt, line 1: 'a\.png b\.png 1 2'",
        ),
        ('nyu', 'nyu/nyu_train.txt', lambda path: path.write_text('\n'), r'nyu_train\.txt: the l'),
    ],
)
def test_what_is_wrong_is_named_before_a_run(
    root: Path, name: str, path: str, damage: Callable[[Path], Any], message: str
) -> None:
    cfg = config(f'{name}_linear', root / name)
    damage(root / path)
    with pytest.raises(UserError, match=message):
        check_data(cfg)


def test_intact_data_pass_and_others_are_no_nyu(root: Path) -> None:
    for name in ('own', 'nyu'):
        check_data(config(f'{name}_linear', root / name), ('train', 'val', 'test'))
    cfg = config('nyu_linear', root / 'own')
    for loader, split in ((cfg.train_dataloader, 'train'), (cfg.val_dataloader, 'val')):
        prefix = dict(img_path=f'images/{split}', depth_map_path=f'depth/{split}')
        loader.dataset.update(data_prefix=prefix, img_suffix='.png')
    with pytest.raises(UserError, match=r'140 x 112 pixels, but CutFrame.*own_linear\.py'):
        check_data(cfg)
    cfg.train_dataloader.dataset.pipeline = cfg.val_dataloader.dataset.pipeline
    with pytest.raises(UserError, match='140 x 112 pixels, but crop_type=nyu_crop'):
        check_data(cfg)


def test_a_depth_map_is_checked_as_it_is_loaded(root: Path) -> None:
    cfg = config('own_linear', root / 'own')
    built = DATASETS.build(cfg.val_dataloader.dataset)
    path = root / 'own/depth/val/room_000.png'
    truth = built[0]['data_samples'].gt_depth_map.data[0].numpy()
    np.testing.assert_allclose(truth, stored(path) / 1000, rtol=1e-6)
    assert truth[:2].max() == 0
    halved(path)
    with pytest.raises(UserError, match=r'room_000\.png: is 70 x 56'):
        built[0]
    path.write_text('text')
    with pytest.raises(UserError, match=r'room_000\.png: cannot be read as a depth map'):
        built[0]


@pytest.mark.parametrize(
    ('median', 'factor', 'says'),
    [
        (2500, 1e-3, None),
        (2.5, 1.0, None),
        (2.5, 1e-3, 'meters: set depth_rescale_factor=1 '),
        (2500, 1.0, 'millimeters: set depth_rescale_factor=0.001 '),
        (40_000, 1e-3, 'max_depth of the head'),
    ],
)
def test_units_by_the_median(median: float, factor: float, says: str | None) -> None:
    fault = unit_fault(median, factor, 10.0)
    assert (fault is None) == (says is None)
    assert says is None or says in (fault or '')


def test_padding_with_255_meters_is_refused(root: Path) -> None:
    cfg = config('own_linear', root / 'own')
    check_depth_padding(cfg)
    del cfg.train_dataloader.dataset.pipeline[2]['seg_pad_val']
    with pytest.raises(UserError, match=r'RandomRotate pads depth with 255.*seg_pad_val=0'):
        check_depth_padding(cfg)
    cfg.model.data_preprocessor.seg_pad_val = 255
    with pytest.raises(UserError, match='data_preprocessor pads depth with 255'):
        check_depth_padding(cfg)


def test_colors_are_gamma_brightness_and_channels_in_this_order() -> None:
    image = np.random.default_rng(0).integers(0, 256, (6, 7, 3), dtype=np.uint8)
    change = RandomDepthColors(1.0, gamma=(1.1, 1.1), brightness=(0.5, 0.5), channels=(1.1, 1.1))
    found = change.transform(dict(img=image))['img']
    expected = np.clip(image.astype(np.float64) ** 1.1 * 0.5 * 1.1, 0, 255)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert found.max() == 219.0 or found.max() < 255
    assert RandomDepthColors(0.0).transform(dict(img=image))['img'] is image
    spread = RandomDepthColors(1.0)
    factors = []
    for _ in range(200):
        gray = spread.transform(dict(img=np.full((1, 1, 3), 50, np.uint8)))['img'][0, 0]
        factors.append(gray / 50)
    low, high = 50**-0.1 * 0.75 * 0.9, 50**0.1 * 1.25 * 1.1
    assert low < np.min(factors) < low * 1.3
    assert high > np.max(factors) > high / 1.3
    assert np.std(np.asarray(factors) / np.mean(factors, axis=1, keepdims=True)) > 0.02


def test_the_frame_is_cut_from_image_and_depth() -> None:
    image, depth = np.zeros((10, 12, 3), np.uint8), np.arange(120.0).reshape(10, 12)
    found = CutFrame((2, 9), (3, 11)).transform(
        dict(img=image, gt_depth_map=depth, seg_fields=['gt_depth_map'])
    )
    assert found['img'].shape == (7, 8, 3)
    assert found['img_shape'] == (7, 8)
    assert found['gt_depth_map'][0, 0] == depth[2, 3]
    with pytest.raises(UserError, match='12 x 10 pixels'):
        CutFrame((2, 11), (3, 11)).transform(dict(img=image, seg_fields=[]))
