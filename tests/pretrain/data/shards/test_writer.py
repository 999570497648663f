"""Writing shards: what is in them, the same bytes again, taken up after a kill, and verified."""

from __future__ import annotations

import hashlib
import json
import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from moca.errors import UserError
from moca.pretrain.data.shards import writer
from moca.pretrain.data.shards.images import ShardImages
from moca.pretrain.data.shards.packing import parse_size
from moca.pretrain.data.shards.writer import write_shards
from tests.images.photographs import save_photographs
from tests.pretrain.data.shards.tars import contents
from tools.prepare_data import main


def watch(items: Any, count: int, title: str) -> Any:
    return items


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=20)
    return folder


@pytest.fixture(scope='module')
def written(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp('shards') / 'out'
    write_shards(folder, out, 24_000, watch)
    return out


def members(out: Path) -> list[dict[str, bytes]]:
    """The files of each shard, as Python's own module reads them."""
    found = []
    for path in sorted(out.glob('*.tar')):
        with tarfile.open(path) as tar:
            files = [(info.name, tar.extractfile(info)) for info in tar]
            found.append({name: file.read() for name, file in files if file})
    return found


def test_shards_hold_the_images_and_their_classes(folder: Path, written: Path) -> None:
    shards = members(written)
    assert len(shards) > 2
    together = {name: data for shard in shards for name, data in shard.items()}
    assert len(together) == sum(map(len, shards)) == 40
    images = contents(folder)
    assert {name: data for name, data in together.items() if name in images} == images
    for name in images:
        assert together[name.replace('.jpg', '.cls')] == name[len('class') :][:1].encode()
    order = [name for shard in shards for name in shard if name in images]
    assert order != sorted(order), 'classes are mixed'
    # as large as they may be: none could have taken the next image
    sizes = [path.stat().st_size for path in sorted(written.glob('*.tar'))]
    firsts = [next(iter(shard.values())) for shard in shards]
    room = tarfile.RECORDSIZE
    assert all(size <= 24_000 + room for size in sizes)
    assert all(
        size + len(first) + 4 * 512 > 24_000
        for size, first in zip(sizes[:-1], firsts[1:], strict=True)
    )
    manifest = json.loads((written / 'manifest.json').read_text())
    assert manifest['images'] == 20
    assert manifest['classes'] == ['class0', 'class1']
    for row in manifest['shards']:
        data = (written / row['name']).read_bytes()
        assert row['sha256'] == hashlib.sha256(data).hexdigest()
        assert row['bytes'] == len(data)
    assert sum(row['images'] for row in manifest['shards']) == 20


def test_a_killed_call_is_taken_up(
    folder: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / 'out'
    count = len(list(written.glob('*.tar')))
    made: list[str] = []
    whole = writer._write_tar

    def dying(root: Path, members: Any, file: Any) -> None:
        if len(made) == 2:
            file.write(b'half')
            raise KeyboardInterrupt
        whole(root, members, file)
        made.append(file.name)

    monkeypatch.setattr(writer, '_THREADS', 1)
    monkeypatch.setattr(writer, '_write_tar', dying)
    with pytest.raises(KeyboardInterrupt):
        write_shards(folder, out, 24_000, watch)
    assert len(list(out.glob('*.tar'))) == 2
    assert not (out / 'manifest.json').exists()
    (out / '.000002.tar.1.partial').write_bytes(b'left by SIGKILL')
    (out / '000001.tar.index').unlink()  # killed between the two files
    monkeypatch.setattr(writer, '_write_tar', whole)
    before = (out / '000000.tar').stat().st_mtime_ns
    assert write_shards(folder, out, 24_000, watch).made == count - 1
    assert (out / '000000.tar').stat().st_mtime_ns == before
    assert contents(out) == contents(written), 'the same bytes'
    assert write_shards(folder, out, 24_000, watch).made == 0


def test_keys_have_no_dots_and_one_image(tmp_path: Path) -> None:
    images = tmp_path / 'images'
    save_photographs(images, count=2)
    data = (images / 'class0' / '0000.jpg').read_bytes()
    for name in ('a.1.jpg', 'a.2.jpg', 'b.jpg', 'b.png', 'c', 'd.v1/e.jpg'):
        (images / name).parent.mkdir(exist_ok=True)
        (images / name).write_bytes(data)
    found = write_shards(images, tmp_path / 'out', 10**6, watch)
    assert (found.images, found.classes, found.renamed) == (8, 0, 3)
    (shard,) = members(tmp_path / 'out')
    names = {'a_1.jpg', 'a_2.jpg', 'b.jpg', 'b_2.png', 'c.jpeg', 'd.v1/e.jpg'}
    assert set(shard) == names | {'class0/0000.jpg', 'class1/0001.jpg'}
    assert len(ShardImages(str(tmp_path / 'out'))) == 8


def test_what_cannot_be_written_is_refused(
    folder: Path, written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(UserError, match=r'lies in .* whose images it is to hold'):
        write_shards(folder, folder / 'shards', 10**6, watch)
    with pytest.raises(UserError, match=r'holds other shards, such as 000001\.tar'):
        write_shards(folder, written, 10**9, watch)
    with pytest.raises(UserError, match='no such folder'):
        write_shards(tmp_path / 'missing', tmp_path / 'out', 10**6, watch)
    (tmp_path / 'empty').mkdir()
    with pytest.raises(UserError, match='no image in there'):
        write_shards(tmp_path / 'empty', tmp_path / 'out', 10**6, watch)
    (tmp_path / 'file').touch()
    with pytest.raises(UserError, match=r'Give another folder for the shards'):
        write_shards(folder, tmp_path / 'file', 10**6, watch)

    images = tmp_path / 'images'
    shutil.copytree(folder, images)
    whole = writer._write_all

    def after_a_change(*args: Any) -> Any:
        (images / 'class0' / '0004.jpg').write_bytes(b'shorter')
        return whole(*args)

    monkeypatch.setattr(writer, '_write_all', after_a_change)
    with pytest.raises(UserError, match=r'0004\.jpg: has just changed'):
        write_shards(images, tmp_path / 'changed', 10**6, watch)


@pytest.mark.parametrize(
    ('text', 'size'),
    [('512MB', 512_000_000), ('1.5 GiB', 3 << 29), ('64kib', 65536), ('2000', 2000)],
)
def test_sizes_have_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize('text', ['512', '0', 'MB', '1TB', '-1MB', '5 furlongs', ''])
def test_other_sizes_are_refused(text: str) -> None:
    with pytest.raises(UserError, match=r'--size .*512MB or 1GiB'):
        parse_size(text)


def test_the_tool_writes_and_verifies(
    folder: Path, written: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / 'out'
    assert main(['shards', str(folder), str(out), '--size', '24KB']) == 0
    assert f'Ready: --data-root {out}' in capsys.readouterr().out
    assert contents(out) == contents(written)
    assert main(['check', str(out)]) == 0
    assert '20' in capsys.readouterr().out

    shard = out / '000001.tar'
    data = bytearray(shard.read_bytes())
    data[700] ^= 1  # in the first image, and nowhere else
    shard.write_bytes(data)
    (out / '000002.tar').rename(tmp_path / 'gone.tar')
    ShardImages(str(out))
    assert '1 shards that its manifest.json names are not there, such as' in capsys.readouterr().out
    assert main(['check', str(out)]) == 2
    said = capsys.readouterr()
    assert '000002.tar: this shard is in the manifest and not there' in said.out
    assert '000001.tar: its SHA-256 is not' in said.out
    assert 'faults, of which the first is' in said.err
