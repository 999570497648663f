"""Listing a folder: which files are images, what is left out, links, and the memory of it."""

from __future__ import annotations

import os
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from moca.engine import once
from moca.errors import UserError
from moca.images import listing
from moca.images.files import list_images, unused_images
from moca.images.listing import PathList, list_folder, list_folder_once


def touch(root: Path, *names: str) -> None:
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()


def test_endings_in_any_case_and_what_is_left_out(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / 'root', tmp_path / 'elsewhere'
    touch(
        root, 'b.JPG', 'a/z.Jpeg', 'a/deep/er/c.png', 'a/d.webp', 'e.BMP', 'f.tif', 'f.TIFF',
        'f.gif', 'f.jfif', 'f.ppm', 'f.pgm', 'f.jp2', 'f.avif', 'notes.txt', 'more.TXT',
        'labels.json', '._b.jpg', '.cache/f.jpg', 'jpg', 'f.heic',
    )  # fmt: skip
    touch(elsewhere, 'g.png')
    (root / 'link').symlink_to(elsewhere)
    found = list_folder(root)
    assert list(found.paths) == [
        'a/d.webp', 'a/deep/er/c.png', 'a/z.Jpeg', 'b.JPG', 'e.BMP', 'f.TIFF', 'f.avif', 'f.gif',
        'f.jfif', 'f.jp2', 'f.pgm', 'f.ppm', 'f.tif', 'link/g.png',
    ]  # fmt: skip
    kinds = {'.txt': 2, 'hidden': 2, '.json': 1, 'without an ending': 1, '.heic': 1}
    assert found.left_out == Counter(kinds)
    assert '14 images; left out: 2 ' in found.describe()
    assert '2 .txt' in found.describe()


@pytest.mark.parametrize(
    'kind', ['JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF', 'AVIF', 'PPM', 'JPEG2000']
)
def test_files_without_an_ending_are_told_by_their_content(tmp_path: Path, kind: str) -> None:
    Image.new('RGB', (20, 20)).save(tmp_path / 'image', kind)
    for name, text in (('README', '# Images'), ('LICENSE', 'Permission is'), ('empty', '')):
        (tmp_path / name).write_text(text)
    found = list_folder(tmp_path)
    assert list(found.paths) == ['image']
    assert found.left_out == {'without an ending': 3}


def test_links_in_circles_end(tmp_path: Path) -> None:
    touch(tmp_path, 'a/b/x.png')
    (tmp_path / 'a/b/up').symlink_to(tmp_path)
    (tmp_path / 'a/here').symlink_to(tmp_path / 'a')
    (tmp_path / 'itself').symlink_to(tmp_path / 'itself')
    (tmp_path / 'twin').symlink_to(tmp_path / 'a/b')
    found = list_folder(tmp_path)
    assert list(found.paths) == ['a/b/x.png', 'twin/x.png']
    assert found.left_out['links in circles'] == 3
    assert found.left_out['without an ending'] == 1


def test_a_folder_is_read_once_until_it_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, 'a/x.png', 'a/y.png', 'b/z.png')
    long_ago = time.time() - 100
    for folder in (tmp_path / 'a', tmp_path / 'b', tmp_path):
        os.utime(folder, (long_ago, long_ago))
    reads: list[Any] = []
    scandir = os.scandir
    monkeypatch.setattr(os, 'scandir', lambda path: reads.append(path) or scandir(path))
    assert len(list_folder(tmp_path).paths) == len(list_folder(tmp_path).paths) == 3
    assert len(reads) == 3
    touch(tmp_path, 'b/new.png')
    assert len(list_folder(tmp_path).paths) == 4
    touch(tmp_path, 'b/newer.png')  # perhaps within one tick of the clock
    assert len(list_folder(tmp_path).paths) == 5


def test_one_process_reads_for_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touch(tmp_path, 'x.png')
    sent: list[Any] = []
    monkeypatch.setattr(once, 'get_world_size', lambda: 2)
    monkeypatch.setattr(once, 'get_rank', lambda: 0)
    monkeypatch.setattr(once, '_wait_for_first', lambda: None)
    monkeypatch.setattr(once, 'broadcast_object_list', lambda found: sent.extend(found))
    assert list(list_folder_once(tmp_path).paths) == ['x.png']
    monkeypatch.setattr(once, 'get_rank', lambda: 1)
    monkeypatch.setattr(listing, 'list_folder', lambda root: pytest.fail('read again'))
    monkeypatch.setattr(once, 'broadcast_object_list', lambda found: found.__setitem__(0, sent[0]))
    assert list(list_folder_once(tmp_path).paths) == ['x.png']


def test_path_list_is_a_list() -> None:
    names = ['a/b.jpg', '', 'ümläut/図.png', 'not utf-8 \udcff.jpg', '']
    paths = PathList(names)
    assert list(paths) == names
    assert len(paths) == 5
    assert [paths[index] for index in range(5)] == names
    assert paths[1:3] == names[1:3]
    with pytest.raises(IndexError):
        paths[5]
    assert list(PathList([])) == []


def test_a_folder_without_images_says_what_it_holds(tmp_path: Path) -> None:
    touch(tmp_path, *(f'{number}.heic' for number in range(40)), 'a.txt')
    with pytest.raises(UserError, match=r'no image in there \(\.jpg.*left out: 40 \.heic, 1 \.txt'):
        list_images(tmp_path, '--images')


def test_images_that_a_data_set_does_not_take(tmp_path: Path) -> None:
    touch(tmp_path, 'a.jpg', 'b.jpg', 'c.png', 'd.tif', 'e.tif', 'notes.txt')
    used = [tmp_path / 'a.jpg', tmp_path / 'b.jpg']
    said = unused_images(list_folder(tmp_path), used, '.jpg')
    assert '2 images; left out' in said
    assert said.endswith('1 .png, 2 .tif, 1 .txt')
    assert '1 .jpg' in unused_images(list_folder(tmp_path), used[:1])
    touch(tmp_path, 'f.JPG', 'g.jpeg', 'h.jpeg')
    with pytest.raises(UserError, match=r'1 \.JPG, 2 \.jpeg beside 2 \.jpg'):
        unused_images(list_folder(tmp_path), used, '.jpg')
