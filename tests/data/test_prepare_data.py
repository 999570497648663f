"""tools/prepare_data.py: train ids, layouts, and looking through the data of a config."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import mmseg
import numpy as np
import pytest
from mmseg.datasets import CityscapesDataset
from PIL import Image

from tests.configs.helpers import REPOSITORY, write_ade20k, write_cityscapes, write_coco_semantic
from tools.prepare_data import main

LINEAR = REPOSITORY / 'configs/segmentation/cityscapes/linear.py'
RAW, TRAIN = '_gtFine_labelIds.png', '_gtFine_labelTrainIds.png'

# In the order of their ids, from Cityscapes' class definitions.
# fmt: off
NAMES = (
    'unlabeled', 'ego vehicle', 'rectification border', 'out of roi', 'static', 'dynamic',
    'ground', 'road', 'sidewalk', 'parking', 'rail track', 'building', 'wall', 'fence',
    'guard rail', 'bridge', 'tunnel', 'pole', 'polegroup', 'traffic light', 'traffic sign',
    'vegetation', 'terrain', 'sky', 'person', 'rider', 'car', 'truck', 'bus', 'caravan',
    'trailer', 'train', 'motorcycle', 'bicycle',
)
# fmt: on


@pytest.fixture
def download(tmp_path: Path) -> Path:
    """Cityscapes as it is downloaded: labelIds, among them every one from 0 to 33."""
    root = write_cityscapes(tmp_path / 'cityscapes')
    random = np.random.default_rng(0)
    for path in list((root / 'gtFine').rglob(f'*{TRAIN}')):
        ids = random.permutation(np.arange(64 * 128) % 34).reshape(64, 128).astype(np.uint8)
        cv2.imwrite(str(path).replace(TRAIN, RAW), ids)
        path.unlink()
    return root


def read(path: Path) -> np.ndarray:
    return cv2.imread(str(path), cv2.IMREAD_UNCHANGED)


def test_train_ids_follow_the_names_of_the_classes(download: Path) -> None:
    assert main(['cityscapes', str(download)]) == 0
    made = sorted((download / 'gtFine').rglob(f'*{TRAIN}'))
    assert len(made) == 6
    classes = CityscapesDataset.METAINFO['classes']
    for path in made:
        ids = read(Path(str(path).replace(TRAIN, RAW)))
        wanted = [[classes.index(NAMES[i]) if NAMES[i] in classes else 255 for i in r] for r in ids]
        np.testing.assert_array_equal(read(path), wanted)
    assert len(NAMES) == 34
    assert set(np.unique(read(made[0]))) == {*range(19), 255}


def test_an_interrupted_call_is_taken_up(download: Path, capsys: Any) -> None:
    assert main(['cityscapes', str(download)]) == 0
    made = sorted((download / 'gtFine').rglob(f'*{TRAIN}'))
    content, times = made[0].read_bytes(), [path.stat().st_mtime_ns for path in made]
    made[0].write_bytes(content[:50])
    made[1].unlink()
    capsys.readouterr()
    assert main(['cityscapes', str(download)]) == 0
    assert made[0].read_bytes() == content
    assert [path.stat().st_mtime_ns for path in made[2:]] == times[2:]
    table = capsys.readouterr().out
    # made[0] and made[1] are of the training set
    assert re.search(r'train\W+4 of 2975\W+2\b', table)
    assert re.search(r'val\W+2 of 500\W+0\b', table)
    assert not list(download.rglob('*.partial'))


@pytest.mark.parametrize(
    ('damage', 'message'),
    [
        (lambda root: next(root.rglob(f'*{RAW}')).unlink(), rf'1 of \d files are missing.*{TRAIN}'),
        (
            lambda root: cv2.imwrite(str(next(root.rglob(f'*{RAW}'))), np.zeros((64, 128, 3))),
            rf'{RAW}: holds colors',
        ),
        (
            lambda root: cv2.imwrite(str(next(root.rglob(f'*{RAW}'))), np.full((64, 128), 40)),
            rf'{RAW}: holds 40, which',
        ),
        (
            lambda root: (root / 'leftImg8bit').rename(root / 'x'),
            r'no images leftImg8bit/\(train',
        ),
    ],
)
def test_what_is_wrong_with_a_download_is_named(
    download: Path, damage: Callable[[Path], Any], message: str, capsys: Any
) -> None:
    damage(download)
    assert main(['cityscapes', str(download)]) == 2
    assert re.search(message, capsys.readouterr().err)


def test_ade20k(tmp_path: Path, capsys: Any) -> None:
    assert main(['ade20k', str(tmp_path / 'nowhere')]) == 2
    (tmp_path / 'ADEChallengeData2016.zip').touch()
    capsys.readouterr()
    assert main(['ade20k', str(tmp_path)]) == 2
    assert 'Unpack ADEChallengeData2016.zip there first' in capsys.readouterr().err
    root = write_ade20k(tmp_path / 'ADEChallengeData2016')
    for given in (root, tmp_path):
        assert main(['ade20k', str(given)]) == 0
        output = capsys.readouterr().out
        assert f'--data-root {root}\n' in output
        assert re.search(r'training\W+4 of 20210', output)
    lost = next((root / 'annotations/validation').iterdir())
    lost.unlink()
    assert main(['ade20k', str(root)]) == 2
    assert str(lost) in capsys.readouterr().err


def check(config: Path, root: Path, out: Path) -> int:
    return main(['check', str(config), '--data-root', str(root), '--out', str(out), '--count', '2'])


def test_check_counts_what_is_there(tmp_path: Path, capsys: Any) -> None:
    root = write_cityscapes(tmp_path / 'data')
    assert check(LINEAR, root, tmp_path / 'sheet.png') == 0
    output = capsys.readouterr().out
    for split, column in (('train', 0), ('val', 1)):
        labels = np.stack([read(p) for p in (root / 'gtFine' / split).rglob('*.png')])
        share = (labels == 13).sum() / (labels != 255).sum()
        (row,) = re.findall(r'│ 13 .*│', output)
        cells = [cell.strip() for cell in row.split('│')[3:-2]]
        assert cells[2 * column : 2 * column + 2] == [f'{share:.2%}', str(len(labels))]
        ignored = (labels == 255).mean()
        assert re.search(rf'{split} .*│ 128 x 64 +│ 2 of 19 +│ {ignored:.1%} +│ 0 ', output)
    # Two rows of image and labels, for training and validation, over a legend of two classes.
    sheet = np.asarray(Image.open(tmp_path / 'sheet.png').convert('RGB')).astype(int)
    assert sheet.shape[1] > 2 * sheet.shape[0]
    assert (np.abs(sheet - [0, 0, 142]).sum(axis=-1) < 6).sum() > 50  # cars, in the legend


def test_check_finds_every_fault_at_once(tmp_path: Path, capsys: Any) -> None:
    root = write_cityscapes(tmp_path / 'data', train=6)
    labels = sorted((root / 'gtFine/train').rglob('*.png'))
    images = sorted((root / 'leftImg8bit/train').rglob('*.png'))
    labels[0].unlink()
    images[1].write_bytes(images[1].read_bytes()[:200])
    cv2.imwrite(str(labels[2]), np.full((64, 128), 26, np.uint8))
    cv2.imwrite(str(labels[3]), np.zeros((32, 64), np.uint8))
    cv2.imwrite(str(labels[4]), np.full((64, 128), 255, np.uint8))  # no fault, but worth a word
    orphan = labels[5].with_name(f'nobody{TRAIN}')
    orphan.write_bytes(labels[5].read_bytes())
    cv2.imwrite(str(next((root / 'gtFine/val').rglob('*.png'))), np.full((64, 128), 3, np.uint8))
    assert check(LINEAR, root, tmp_path / 'sheet.png') == 2
    captured = capsys.readouterr()
    assert f'4 faults, of which the first is {labels[0]}: the file is missing' in captured.err
    for text in (
        f'train: {labels[0]}: the file is missing',
        f'train: {images[1]}: a broken image',
        f'train: {labels[2]}: holds 26, which',
        f'train: {labels[3]}: is 64 x 32, its image 128 x 64',
        f'train: 1 label maps have no labeled pixel: {labels[4]}',
        f'train: 1 label maps have no image: {orphan}',
        'val: classes that train has not: wall',
    ):
        assert text in captured.out
    assert (tmp_path / 'sheet.png').is_file()


def test_a_folder_with_brackets_is_named_as_it_is(tmp_path: Path, capsys: Any) -> None:
    root = write_cityscapes(tmp_path / 'data [old] ünï')
    out = tmp_path / 'out [red] x' / 'sheet.png'
    assert check(LINEAR, root, out) == 0
    assert f'Written: {out}\n' in capsys.readouterr().out
    assert out.is_file()


def test_check_names_a_split_that_is_missing(tmp_path: Path, capsys: Any) -> None:
    root = write_cityscapes(tmp_path / 'data')
    (root / 'leftImg8bit/val').rename(root / 'elsewhere')
    assert check(LINEAR, root, tmp_path / 'sheet.png') == 2
    assert 'leftImg8bit/val: no such folder' in capsys.readouterr().err


def test_check_of_many_classes_in_their_own_ids(
    tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = write_coco_semantic(tmp_path / 'data')
    config = REPOSITORY / 'configs/segmentation/coco-semantic/linear-bn.py'
    monkeypatch.chdir(tmp_path)
    assert main(['check', str(config), '--data-root', str(root), '--count', '2']) == 0
    output = capsys.readouterr().out
    sheet = 'work_dirs/data/coco-semantic_linear-bn_data.png'  # another folder, another sheet
    assert f'Written: {sheet}\n' in output
    assert (tmp_path / sheet).is_file()
    assert 'The 40 most frequent of 133 classes' in output
    assert re.search(r'│ 0 +│ person ', output)
    assert re.search(r'│ 125 +│ grass-merged ', output)


@pytest.mark.filterwarnings('ignore:`reduce_zero_label` will be deprecated:UserWarning')
def test_check_of_a_config_that_is_none_of_ours(tmp_path: Path, capsys: Any) -> None:
    """No protocol, mmseg's own transforms and backbone; heads of another number of classes."""
    root = write_ade20k(tmp_path / 'data')
    base = Path(mmseg.__file__).parent / '.mim/configs/_base_/datasets/ade20k.py'
    text = f"""
_base_ = '{base}'
model = dict(backbone=dict(type='ResNet'), decode_head=dict(type='FCNHead', num_classes=150))
"""
    config = tmp_path / 'config.py'
    config.write_text(text)
    assert check(config, root, tmp_path / 'sheet.png') == 0
    assert re.search(r'train .*2 of 150 .*│ 0 ', capsys.readouterr().out)
    config.write_text(text.replace('150', '19'))
    assert check(config, root, tmp_path / 'sheet.png') == 2
    assert 'ADE20KDataset has 150 classes, and the heads are of 19' in capsys.readouterr().err
