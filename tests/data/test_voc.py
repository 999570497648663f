"""tools/prepare_data.py voc: label maps of SBD beside VOC's own, and the list of both."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from tests.configs.helpers import REPOSITORY
from tools.prepare_data import main

# The names of VOC's train and val, and of SBD, which has images of both and others.
TRAIN, VAL, SBD = ['2007_a', '2007_b'], ['2007_v', '2007_w'], ['2007_b', '2007_v', '2008_s']
AUG = 'SegmentationClassAug'


def labels_of(name: str, source: str) -> np.ndarray:
    """A label map that tells of which image and of which data set it is."""
    labels = np.zeros((32, 48), np.uint8)
    labels[4:20] = 1 + sum(name.encode()) % 9 + (10 if source == 'sbd' else 0)
    labels[:2] = 255
    return labels


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """VOC2012 and SBD as their archives unpack, side by side."""
    root = tmp_path / 'VOCdevkit' / 'VOC2012'
    lists, own, images = (
        root / part for part in ('ImageSets/Segmentation', 'SegmentationClass', 'JPEGImages')
    )
    for folder in (lists, own, images):
        folder.mkdir(parents=True)
    for split, names in (('train', TRAIN), ('val', VAL)):
        (lists / f'{split}.txt').write_text('\n'.join([*names, '']))
        for name in names:
            with_palette = Image.fromarray(labels_of(name, 'voc'), 'P')
            with_palette.putpalette([value * 7 % 256 for value in range(768)])
            with_palette.save(own / f'{name}.png')
    for name in {*TRAIN, *VAL, *SBD}:
        Image.fromarray(np.zeros((32, 48, 3), np.uint8)).save(images / f'{name}.jpg')
    mats = tmp_path / 'benchmark_RELEASE' / 'dataset' / 'cls'
    mats.mkdir(parents=True)
    for name in SBD:
        savemat(mats / f'{name}.mat', {'GTcls': {'Segmentation': labels_of(name, 'sbd')}})
    return root


def prepared(root: Path, *more: str) -> int:
    return main(['voc', str(root), *more])


def test_labels_of_both_and_the_list_without_validation(root: Path, capsys: Any) -> None:
    sbd = root.parents[1] / 'benchmark_RELEASE'
    assert prepared(root.parent, '--sbd', str(sbd)) == 0
    output = capsys.readouterr().out
    assert f'--data-root {root}\n' in output
    assert '3 of 10582' in output
    listed = (root / 'ImageSets/Segmentation/trainaug.txt').read_text().split()
    assert listed == ['2007_a', '2007_b', '2008_s']
    # VOC's own labels where there are any; the indices of a palette count
    for name, source in (('2007_a', 'voc'), ('2007_b', 'voc'), ('2008_s', 'sbd')):
        with Image.open(root / AUG / f'{name}.png') as image:
            np.testing.assert_array_equal(np.asarray(image), labels_of(name, source))
    assert len(list((root / AUG).iterdir())) == 3
    for path in (root / AUG).iterdir():
        os.utime(path, ns=(1, 1))  # a file system's clock may not have moved since
    (root / AUG / '2008_s.png').unlink()
    assert prepared(root, '--sbd', str(sbd)) == 0  # the lost one alone is made again
    made = [path.name for path in (root / AUG).iterdir() if path.stat().st_mtime_ns != 1]
    assert made == ['2008_s.png']
    out = str(root / 'sheet.png')
    config = str(REPOSITORY / 'configs/segmentation/voc/linear-bn.py')
    assert main(['check', config, '--data-root', str(root), '--out', out, '--count', '1']) == 0


def test_a_download_of_the_label_maps_needs_no_sbd(root: Path) -> None:
    (root / AUG).mkdir()
    for name in (*TRAIN, *VAL, '2008_s'):  # the archive has maps of validation images, too
        Image.fromarray(labels_of(name, 'sbd')).save(root / AUG / f'{name}.png')
    assert prepared(root) == 0
    listed = (root / 'ImageSets/Segmentation/trainaug.txt').read_text().split()
    assert listed == ['2007_a', '2007_b', '2008_s']


def test_what_is_missing_is_named(root: Path, capsys: Any) -> None:
    def error_of(*arguments: str) -> str:
        assert prepared(root, *arguments) == 2
        return capsys.readouterr().err

    assert 'neither SegmentationClassAug/*.png nor SBD' in error_of()
    assert '--sbd' in error_of('--sbd', str(root))
    sbd = root.parents[1] / 'benchmark_RELEASE'
    (sbd / 'dataset/cls/2008_s.mat').write_bytes(b'no matrix')
    assert '2008_s.mat: no annotation of SBD' in error_of('--sbd', str(sbd))
    (root / 'JPEGImages/2007_a.jpg').unlink()
    assert '2007_a.jpg' in error_of('--sbd', str(sbd))
    (root / 'ImageSets/Segmentation/trainaug.txt').write_text('2007_b\n2007_v\n')
    assert '1 images of val.txt are in it, such as 2007_v' in error_of('--sbd', str(sbd))
    (root / 'ImageSets/Segmentation/val.txt').unlink()
    assert 'val.txt: no such file' in error_of()
    assert main(['voc', str(root / 'JPEGImages')]) == 2
    assert 'VOCtrainval_11-May-2012.tar' in capsys.readouterr().err
