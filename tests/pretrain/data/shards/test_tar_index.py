"""Indexes of tars: what is in them, what is damaged, and where they are kept."""

from __future__ import annotations

import io
import tarfile
import time
from pathlib import Path

import pytest

from moca.errors import UserError
from moca.pretrain.data.shards import index_cache
from moca.pretrain.data.shards.index_cache import INDEX, find_index, find_indexes
from moca.pretrain.data.shards.parallel import in_threads
from moca.pretrain.data.shards.storage import look_at
from moca.pretrain.data.shards.tar_index import ShardIndex, index_tar
from tests.pretrain.data.shards.tars import write_tar

FILES = {
    'one/a.jpg': b'first',
    'one/a.cls': b'3',
    'one/b.PNG': b'x' * 1024,
    'one/none.json': b'{}',
    f'{"deep/" * 40}{"c" * 120}.jpeg': b'long',
    'ümläut/図.webp': b'',
    '.hidden.jpg': b'h',
}
IMAGES = [name for name in FILES if name.lower().endswith(('jpg', 'png', 'jpeg', 'webp'))][:-1]


def index_of(data: bytes) -> ShardIndex:
    return index_tar(io.BytesIO(data), len(data))


@pytest.mark.parametrize('form', [tarfile.PAX_FORMAT, tarfile.GNU_FORMAT])
def test_members_are_where_they_are(tmp_path: Path, form: int) -> None:
    data = write_tar(tmp_path / 'a.tar', FILES, form)
    index = index_of(data)
    assert list(index.names) == IMAGES
    for (start, size, header), name in zip(index.members.tolist(), IMAGES, strict=True):
        assert data[start + header : start + header + size] == FILES[name]
        member = tarfile.TarFile(fileobj=io.BytesIO(data[start : start + header])).next()
        assert member is not None
        assert member.name == name, 'its headers say its name'
    assert index.left_out == {'.cls': 1, '.json': 1, 'hidden': 1, 'keys without an image': 2}
    assert (index.doubled, index.damage, index.size) == ([], '', len(data))


def test_links_and_folders_are_no_images(tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode='w') as tar:
        for name, kind in (('d', tarfile.DIRTYPE), ('d/a.jpg', tarfile.SYMTYPE)):
            info = tarfile.TarInfo(name)
            info.type = kind
            tar.addfile(info)
    index = index_of(buffer.getvalue())
    assert len(index.members) == 0
    assert index.left_out == {'links and the like': 1, 'keys without an image': 1}


def test_two_images_under_one_key(tmp_path: Path) -> None:
    files = {'x/a.jpg': b'1', 'x/a.seg.png': b'2', 'y/a.jpg': b'3'}
    index = index_of(write_tar(tmp_path / 'a.tar', files))
    assert index.doubled == ['x/a.jpg', 'x/a.seg.png']
    assert len(index.members) == 3


def test_damaged_tars_give_what_is_whole(tmp_path: Path) -> None:
    files = {f'{number}.jpg': bytes([number]) * 700 for number in range(4)}
    data = write_tar(tmp_path / 'a.tar', files)
    one = 512 + 1024  # a header and two blocks
    cases = {
        'it ends within 2.jpg': (data[: 2 * one + 600], 2),
        'it ends without the mark of its end': (data[: 3 * one], 3),
        'byte 3,072 begins no member': (data[: 2 * one] + b'\xff' * 512 + data[2 * one + 512 :], 2),
        'no tar from byte 0': (b'\xff' * 2048, 0),
        'the file is empty': (b'', 0),
        '': (b'\0' * 10240, 0),
    }
    for damage, (broken, count) in cases.items():
        index = index_of(broken)
        assert index.damage.startswith(damage), index.damage
        assert bool(index.damage) == bool(damage)
        assert list(index.names) == list(files)[:count]
    # in the middle of a header
    assert index_of(data[: one + 100]).damage == 'it ends without the mark of its end'


def test_an_index_is_a_file(tmp_path: Path) -> None:
    index = index_of(write_tar(tmp_path / 'a.tar', FILES, tarfile.PAX_FORMAT))
    again = ShardIndex.from_bytes(index.to_bytes())
    assert again is not None
    assert again.members.tolist() == index.members.tolist()
    assert list(again.names) == IMAGES
    assert again.left_out == index.left_out
    empty = ShardIndex.from_bytes(index_of(b'').to_bytes())
    assert empty is not None
    assert len(empty.names) == len(empty.members) == 0
    for broken in (b'', b'no index', index.to_bytes()[:-30]):
        assert ShardIndex.from_bytes(broken) is None


def test_indexes_are_made_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    paths = [tmp_path / f'{number}.tar' for number in range(3)]
    for path in paths:
        write_tar(path, {f'{path.stem}.jpg': b'x'})
    made = []

    def counting(file: io.BytesIO, size: int) -> ShardIndex:
        made.append(size)
        return index_tar(file, size)

    monkeypatch.setattr(index_cache, 'index_tar', counting)
    for _ in range(2):
        found = find_indexes([str(path) for path in paths])
        assert [list(index.names) for _, index in found] == [['0.jpg'], ['1.jpg'], ['2.jpg']]
        assert len(made) == 3
    assert len(list((tmp_path / 'cache').iterdir())) == 3

    write_tar(paths[1], {'other.jpg': b'longer'})
    assert list(find_index(look_at(str(paths[1])))[0].names) == ['other.jpg']
    assert len(made) == 4

    # one beside the tar comes first, unless it is of a tar of another size
    beside = Path(f'{paths[2]}{INDEX}')
    beside.write_bytes(index_of(paths[0].read_bytes()).to_bytes())
    assert list(find_index(look_at(str(paths[2])))[0].names) == ['0.jpg']
    beside.write_bytes(index_of(paths[0].read_bytes()[:1024]).to_bytes())
    assert list(find_index(look_at(str(paths[2])))[0].names) == ['2.jpg']
    assert len(made) == 4


def test_an_error_ends_the_search() -> None:
    begun = []

    def work(number: int) -> int:
        begun.append(number)
        time.sleep(0.001 if number <= 3 else 0.1)  # so that none is far ahead of who looks
        if number == 3:
            raise UserError('the fourth')
        return number

    found = in_threads(work, range(1000), 2)
    assert [next(found) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(UserError, match='the fourth'):
        next(found)
    assert len(begun) < 500


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / 'file').touch()
    monkeypatch.setenv(index_cache.CACHE_VARIABLE, str(tmp_path / 'file' / 'cache'))
    write_tar(tmp_path / 'a.tar', {'a.jpg': b'x'})
    with pytest.raises(UserError, match=r'a\.tar cannot be kept there.*MOCA_CACHE'):
        find_indexes([str(tmp_path / 'a.tar')])
