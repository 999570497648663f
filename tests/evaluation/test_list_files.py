"""Lists of training images, in the form of ImageNet's low-shot splits."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from moca.errors import UserError
from moca.evaluation import list_files
from moca.evaluation.labeled import Labeled
from moca.evaluation.list_files import PUBLISHED, read_lists

CLASSES = ('n01', 'n02')
NAMES = ['n01_1.JPEG', 'n01_2.JPEG', 'n01_3.jpeg', 'n02_1.JPEG', 'n02_7.JPEG']


def training(names: list[str] = NAMES) -> Labeled:
    """Files that nobody opens."""
    folders = [name.partition('_')[0] for name in names]
    paths = [f'train/{folder}/{name}' for folder, name in zip(folders, names, strict=True)]
    labels = np.array([CLASSES.index(folder) for folder in folders])
    return Labeled(np.array([os.fsencode(path) for path in paths]), labels, CLASSES)


def write(folder: Path, **lists: list[str]) -> Path:
    for name, lines in lists.items():
        path = folder / f'{name.replace("__", "/")}.txt'
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('\n'.join(lines) + '\n')
    return folder


def test_lists_by_name_and_split(tmp_path: Path) -> None:
    write(
        tmp_path,
        b__few=['n02_7.JPEG', 'n01_1.JPEG'],
        a__few=['n01_2.JPEG', 'n02_1.JPEG'],
        a__more=['n01_2.JPEG', 'n02_1.JPEG', 'n01_3.jpeg'],
    )
    found = read_lists(tmp_path, training(), 'evaluation.subsets')
    assert [(subset.name, subset.split) for subset in found] == [
        ('few', 1),
        ('few', 2),
        ('more', 1),
    ]
    assert [subset.places.tolist() for subset in found] == [[1, 3], [4, 0], [1, 3, 2]]
    assert not any(subset.published for subset in found)


def test_published_lists_are_known_by_their_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # of split 3, the list of five is called 3imgs_class.txt
    write(tmp_path, three__3imgs_class=['n01_1.JPEG', 'n02_1.JPEG'])
    (own,) = read_lists(tmp_path, training(), 'subsets')
    monkeypatch.setattr(list_files, 'PUBLISHED', {own.sha256: ('5shot', 3)})
    (known,) = read_lists(tmp_path, training(), 'subsets')
    assert (own.name, own.split, own.published) == ('3imgs_class', 1, False)
    assert (known.name, known.split, known.published) == ('5shot', 3, True)
    write(tmp_path, again__copy=['n01_1.JPEG', 'n02_1.JPEG'])
    with pytest.raises(UserError, match='are both 5shot, split 3'):
        read_lists(tmp_path, training(), 'subsets')


def test_three_splits_of_three_sizes_and_one_percent_are_published() -> None:
    sizes = [(f'{count}shot', split) for count in (1, 2, 5) for split in (1, 2, 3)]
    assert sorted(PUBLISHED.values()) == sorted([*sizes, ('1pct', 1)])
    assert {len(digest) for digest in PUBLISHED} == {16}


@pytest.mark.parametrize(
    ('lines', 'message'),
    [
        (['n01_1.JPEG', 'n02_9.JPEG'], r'a\.txt, line 2: n02_9\.JPEG is none .* Complete'),
        (['n02_1.JPEG', '', 'n01_3.JPEG'], r'line 3: n01_3\.JPEG .* There is n01_3\.jpeg'),
        (['n01_1.JPEG', 'n02_1.JPEG', 'n01_1.JPEG'], 'line 3: .* second time'),
        (['n01_1.JPEG', 'n01_2.JPEG'], r'no image of 1 classes \(n02\)'),
    ],
)
def test_wrong_lists_are_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    write(tmp_path, a=lines)
    with pytest.raises(UserError, match=message):
        read_lists(tmp_path, training(), 'subsets')


def test_wrong_images_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match='no list in there'):
        read_lists(tmp_path, training(), 'subsets')
    write(tmp_path, a=['n01_1.JPEG', 'n02_1.JPEG'])
    images = training()
    swapped = Labeled(images.paths, 1 - images.labels, CLASSES)
    with pytest.raises(UserError, match=r'class n01 by its name, and lies in the folder n02'):
        read_lists(tmp_path, swapped, 'subsets')
    twins = Labeled(images.paths[[0, 0]], np.array([0, 1]), CLASSES)
    with pytest.raises(UserError, match=r'n01_1\.JPEG is in several classes'):
        read_lists(tmp_path, twins, 'subsets')
    array = Labeled(images.paths, images.labels, CLASSES, pixels=np.zeros((5, 2, 2, 3), np.uint8))
    with pytest.raises(UserError, match='come in one file'):
        read_lists(tmp_path, array, 'subsets')
