"""Training from shards: the samples of a folder, every image once, whatever reads them."""

from __future__ import annotations

import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
import torch
from torch.utils.data import DataLoader

from moca.engine import epoch_order
from moca.engine.epoch_order import Draw, EpochShuffle
from moca.errors import UserError
from moca.pretrain.data.dataset import UnlabeledImages
from moca.pretrain.data.shards.images import ShardImages
from tests.images.photographs import save_photographs
from tests.pretrain.data.shards.tars import contents, write_split, write_tar
from tests.pretrain.data.test_dataset import VIEWS

COUNTS = [9, 1, 6, 7]


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=sum(COUNTS))
    return folder


@pytest.fixture(scope='module')
def shards(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    shards = tmp_path_factory.mktemp('shards')
    write_split(shards, contents(folder), COUNTS)
    return shards


def assert_equal(one: dict[str, Any], other: dict[str, Any]) -> None:
    assert one.keys() == other.keys()
    for name in one:
        assert torch.equal(torch.as_tensor(one[name]), torch.as_tensor(other[name])), name


def test_samples_are_those_of_the_folder(folder: Path, shards: Path) -> None:
    files, tars = UnlabeledImages(folder, VIEWS), UnlabeledImages(shards, VIEWS)
    assert len(files) == len(tars) == 23
    for draw in (Draw(0), Draw(8, 1, 2), Draw(9, 1, 2), Draw(10), Draw(22, 3)):
        assert_equal(files[draw], tars[draw])
    assert tars.paths[0] == '000.tar/class0/0000.jpg'
    assert tars.paths[9] == '001.tar/' + files.paths[9]
    assert tars.path(22) == f'{shards}/003.tar/class1/0021.jpg'
    assert list(tars.paths)[:23] == [tars.paths[i] for i in range(23)]
    # one window: the order of a folder as well
    orders = [list(EpochShuffle(dataset, seed=4)) for dataset in (files, tars)]
    assert orders[0] == orders[1]
    assert files.digest != tars.digest
    assert tars.digest == UnlabeledImages(f'{shards}/{{000..003}}.tar', VIEWS).digest
    assert tars.digest != UnlabeledImages(f'{shards}/{{000..002}}.tar', VIEWS).digest


@pytest.mark.parametrize('workers', [1, 3])
def test_batches_do_not_depend_on_workers_or_storage(shards: Path, workers: int) -> None:
    memory = fsspec.filesystem('memory')
    for path in shards.glob('*.tar'):
        memory.pipe(f'/trained/{path.name}', path.read_bytes())
    local = UnlabeledImages(shards, VIEWS, shuffle_window=8)
    behind = UnlabeledImages('memory://trained', VIEWS, shuffle_window=8)

    def batches(dataset: UnlabeledImages, num_workers: int) -> list[dict[str, Any]]:
        sampler = EpochShuffle(dataset, seed=3)
        sampler.set_epoch(2)
        return list(DataLoader(dataset, batch_size=5, sampler=sampler, num_workers=num_workers))

    expected = batches(local, 0)
    assert sorted(index for batch in expected for index in batch['index'].tolist()) == [*range(23)]
    for got in (batches(local, workers), batches(behind, workers)):
        for one, other in zip(expected, got, strict=True):
            assert_equal(one, other)


@pytest.mark.parametrize('processes', [1, 2, 3, 8])
def test_processes_see_each_image_once(
    shards: Path, processes: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    images = ShardImages(str(shards), window=8)  # four shards of unequal size
    orders = []
    for rank in range(processes):
        monkeypatch.setattr(epoch_order, 'get_dist_info', lambda rank=rank: (rank, processes))
        sampler = EpochShuffle(images, seed=0)
        sampler.set_epoch(1)
        orders.append([draw.image for draw in sampler])
    assert {len(order) for order in orders} == {23 // processes}
    together = [image for step in zip(*orders, strict=True) for image in step]
    # of all processes one order, which does not depend on their number
    whole = images.shuffled(np.random.default_rng((0, 1, 1))).tolist()
    assert together == whole[: len(together)]
    assert sorted(whole) == [*range(23)]


def test_workers_of_four_processes_read_each_image_once(
    shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = UnlabeledImages(shards, VIEWS, shuffle_window=8)
    steps: list[list[list[int]]] = []
    for rank in range(4):
        monkeypatch.setattr(epoch_order, 'get_dist_info', lambda rank=rank: (rank, 4))
        loader = DataLoader(
            dataset, batch_size=2, sampler=EpochShuffle(dataset, seed=0), num_workers=2
        )
        steps.append([batch['index'].tolist() for batch in loader])
    assert [[len(step) for step in process] for process in steps] == [[2, 2, 1]] * 4
    read = [index for process in steps for step in process for index in step]
    assert len(set(read)) == len(read) == 4 * (23 // 4)
    # a step takes the next images of one order, whoever reads them
    order = dataset.shuffled(np.random.default_rng((0, 0, 1))).tolist()
    for number in range(2):
        together = {index for process in steps for index in process[number]}
        assert together == set(order[8 * number :][:8])


def test_an_order_stays_within_few_shards(tmp_path: Path) -> None:
    counts = np.random.default_rng(0).integers(10, 30, 40).tolist()
    files = {f'{number:04d}.jpg': b'' for number in range(sum(counts))}
    write_split(tmp_path, files, counts)
    images = ShardImages(str(tmp_path), window=100)
    shard_of = np.repeat(np.arange(40), counts)
    places = np.zeros(len(files))
    epochs = 40
    for epoch in range(epochs):
        order = images.shuffled(np.random.default_rng(epoch))
        assert sorted(order.tolist()) == [*range(len(files))]
        of_order = shard_of[order]
        spans = [np.ptp(np.flatnonzero(of_order == shard)) for shard in range(40)]
        assert max(spans) < 100 + 2 * 30, 'a shard is read within a window'
        assert np.mean([a == b for a, b in pairwise(of_order)]) < 0.35, 'and mixed with others'
        places[order] += np.arange(len(files)) / epochs
    # anywhere in an epoch: the mean of uniform numbers, within five of its deviations
    deviation = len(files) / np.sqrt(12 * epochs)
    assert abs(places - len(files) / 2).max() < 5 * deviation


def test_broken_members_are_replaced_and_named(folder: Path, tmp_path: Path) -> None:
    files = contents(folder)
    names = list(files)
    files[names[3]] = b''
    files[names[10]] = files[names[10]][: len(files[names[10]]) // 2]
    write_split(tmp_path, files, COUNTS)
    dataset = UnlabeledImages(tmp_path, VIEWS)
    met = {dataset[image]['corrupt_index'] for image in range(23)}
    assert met == {-1, 3, 10}
    assert 'empty' in str(dataset.fault(3))
    assert 'cut short' in str(dataset.fault(10))
    assert dataset.paths[10] == f'002.tar/{names[10]}'


def test_a_truncated_shard_is_named_and_its_whole_images_used(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    paths = write_split(tmp_path, contents(folder), COUNTS)
    paths[0].write_bytes(paths[0].read_bytes()[: 20 << 10])
    paths[1].write_bytes(b'')
    dataset = UnlabeledImages(tmp_path, VIEWS)
    said = capsys.readouterr().out
    count = len(dataset)
    assert 13 < count < 22
    assert f'000.tar: it ends within {list(contents(folder))[count - 13]}. The {count - 13}' in said
    assert '001.tar: the file is empty. The 0 images' in said
    assert all(dataset[image]['corrupt_index'] == -1 for image in range(count))
    # cut off after it was indexed
    data = paths[3].read_bytes()
    paths[3].write_bytes(data[:1000])
    assert dataset[count - 1]['corrupt_index'] == count - 1
    assert dataset.fault(count - 1) == 'its shard ends before it does'
    paths[3].write_bytes(b'\xff' * len(data))
    kept = f'another one than when its index was made.* in {tmp_path}/cache,'
    assert re.search(kept, str(dataset.fault(count - 1)))


def test_bad_shards_are_refused(folder: Path, tmp_path: Path) -> None:
    files = contents(folder)
    image = next(iter(files.values()))
    write_tar(tmp_path / 'double' / '0.tar', {'a.jpg': image, 'a.seg.png': image, 'b.jpg': image})
    with pytest.raises(UserError, match=r"0\.tar: a\.jpg and a\.seg\.png are.*members='\*\.jpg'"):
        UnlabeledImages(tmp_path / 'double', VIEWS)
    assert len(UnlabeledImages(tmp_path / 'double', VIEWS, members='*.jpg')) == 2
    assert len(UnlabeledImages(tmp_path / 'double', VIEWS, members='*')) == 3
    write_tar(tmp_path / 'none' / '0.tar', {'a.json': b'{}', 'a.txt': b''})
    with pytest.raises(UserError, match=r'holds no image.*1 \.json, 1 \.txt, 1 keys without an im'):
        UnlabeledImages(tmp_path / 'none', VIEWS)
    write_tar(tmp_path / 'one' / '0.tar', {'a.jpg': image})
    with pytest.raises(UserError, match='holds one image'):
        UnlabeledImages(f'{tmp_path}/one/0.tar', VIEWS)
    write_tar(tmp_path / 'broken' / '0.tar', {'a.jpg': b'no', 'b.jpg': b'image'})
    with pytest.raises(UserError, match=r'none of 2 images tried.*0\.tar/a\.jpg'):
        UnlabeledImages(tmp_path / 'broken', VIEWS)
    with pytest.raises(UserError, match='shuffle_window is 0'):
        UnlabeledImages(tmp_path / 'one', VIEWS, shuffle_window=0)
    with pytest.raises(UserError, match='is a folder of files, for which members'):
        UnlabeledImages(folder, VIEWS, members='*.jpg')


def test_limit_spreads_over_the_shards(shards: Path) -> None:
    images = ShardImages(str(shards), limit=4)
    assert images.describe() == f'4 images of {shards}: 23 images in 4 shards'
    kept = [0, 5, 11, 17]
    every = ShardImages(str(shards))
    assert list(images.paths) == [every.paths[index] for index in kept]
    assert [images.read(i) for i in range(4)] == [every.read(index) for index in kept]
