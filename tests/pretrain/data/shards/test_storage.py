"""Which tars a data root names, and what is refused."""

from __future__ import annotations

import gzip
from pathlib import Path

import fsspec
import pytest

from moca.errors import UserError
from moca.pretrain.data.shards.storage import RangeReader, find_shards, look_at, names_shards
from moca.pretrain.data.sources import check_data_root
from tests.pretrain.data.shards.tars import write_tar


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    for name in ('000.tar', '001.tar', '010.tar'):
        write_tar(tmp_path / 'shards' / name, {'a.jpg': b'x'})
    (tmp_path / 'shards' / 'manifest.json').touch()
    return tmp_path / 'shards'


def test_folders_patterns_and_ranges(shards: Path) -> None:
    names = [str(shards / name) for name in ('000.tar', '001.tar', '010.tar')]
    assert find_shards(str(shards)) == names
    assert find_shards(f'{shards}/*.tar') == names
    assert find_shards(f'{shards}/00[01].tar') == names[:2]
    assert find_shards(names[1]) == names[1:2]
    # as a shell expands it, whatever is there
    assert find_shards('in/{008..011}.tar') == [f'in/{n}.tar' for n in ('008', '009', '010', '011')]
    assert find_shards('in/{9..11}.tar') == ['in/9.tar', 'in/10.tar', 'in/11.tar']
    assert find_shards('{a,b}/{2..1}.tar') == ['a/2.tar', 'a/1.tar', 'b/2.tar', 'b/1.tar']
    assert find_shards('s3://bucket/{0..1}.tar') == ['s3://bucket/0.tar', 's3://bucket/1.tar']


def test_urls_and_caches_in_front_of_them() -> None:
    memory = fsspec.filesystem('memory')
    for name in ('b', 'a'):
        memory.pipe(f'/listed/{name}.tar', b'x')
    assert find_shards('memory://listed') == ['memory:///listed/a.tar', 'memory:///listed/b.tar']
    cached = find_shards('simplecache::memory://listed/*.tar')
    assert cached == ['simplecache::memory:///listed/a.tar', 'simplecache::memory:///listed/b.tar']
    assert RangeReader().read([(cached[0], 0, 1), (cached[1], 0, 5)]) == [b'x', b'x']


def test_a_folder_of_images_stays_one(shards: Path, tmp_path: Path) -> None:
    assert names_shards(str(shards))
    assert names_shards(f'{shards}/{{000..001}}.tar')
    assert names_shards('s3://bucket/dir')
    assert not names_shards(str(tmp_path)), 'the tars are in a folder below'
    assert not names_shards(str(tmp_path / 'missing'))
    (shards / 'image.JPEG').touch()
    assert not names_shards(str(shards)), 'its tars are left out as before'


def test_what_cannot_be_read_is_refused(shards: Path, tmp_path: Path) -> None:
    (shards / '002.tar.gz').write_bytes(gzip.compress((shards / '000.tar').read_bytes()))
    with pytest.raises(UserError, match=r'002\.tar\.gz is compressed.*1 of 4 files.*Unpack'):
        find_shards(str(shards))
    with pytest.raises(UserError, match=r'no \.tar file.*range such as'):
        find_shards(f'{tmp_path}/*.tar')
    with pytest.raises(UserError, match=r'007\.tar: this shard cannot be read \(No such file'):
        look_at(str(shards / '007.tar'))
    with pytest.raises(UserError, match=r'007\.tar: this shard cannot be read'):
        check_data_root(f'{shards}/{{007..009}}.tar')
    with pytest.raises(UserError, match=r'memory://none/0\.tar: this shard cannot be read'):
        look_at('memory://none/0.tar')
    with pytest.raises(UserError, match=r'nowhere://0\.tar: Protocol not known: nowhere'):
        look_at('nowhere://0.tar')


def test_ranges_that_are_not_there_do_not_raise(shards: Path) -> None:
    reader = RangeReader()
    found = reader.read([(str(shards / '000.tar'), 0, 5), (str(shards / 'gone.tar'), 0, 5)])
    assert found[0] == b'a.jpg'
    assert isinstance(found[1], FileNotFoundError)
    (gone,) = reader.read([('memory://gone.tar', 0, 5)])
    assert isinstance(gone, OSError)
