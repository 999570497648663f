"""The data set and the order of a run: each a function of (seed, epoch, image) alone."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from mmengine.registry import DATA_SAMPLERS, DATASETS
from torch.utils.data import DataLoader

from moca.engine import epoch_order
from moca.engine.epoch_order import Draw, EpochShuffle
from moca.errors import UserError
from moca.pretrain.data.dataset import UnlabeledImages
from tests.images.photographs import save_photographs

VIEWS = {
    'type': 'AugmentedViews',
    'size': 32,
    'views': [{'blur_p': 1.0}, {'blur_p': 0.1, 'solarize_p': 0.2}],
}


@pytest.fixture(scope='module')
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp('images')
    save_photographs(folder, count=23)
    return folder


def test_samples(folder: Path) -> None:
    dataset = DATASETS.build({'type': 'UnlabeledImages', 'data_root': str(folder), 'views': VIEWS})
    assert len(dataset) == 23
    assert dataset.paths[0] == 'class0/0000.jpg'
    assert dataset.paths[22] == 'class1/0021.jpg'
    assert dataset.path(1) == folder / 'class0/0002.jpg'
    sample = dataset[5]
    assert sorted(sample) == ['corrupt_index', 'index', 'view1', 'view2']
    assert sample['index'] == 5
    assert sample['corrupt_index'] == -1
    assert sample['view1'].shape == sample['view2'].shape == (3, 32, 32)


def test_views_depend_on_seed_epoch_and_image_only(folder: Path) -> None:
    one, other = UnlabeledImages(folder, VIEWS), UnlabeledImages(folder, VIEWS)
    one[3]  # leaves no trace
    torch.manual_seed(1)
    reference = one[Draw(7, epoch=2, seed=5)]['view1']
    assert torch.equal(other[Draw(7, epoch=2, seed=5)]['view1'], reference)
    for draw in (Draw(7, 2, 6), Draw(7, 3, 5), Draw(8, 2, 5), Draw(2, 7, 5)):
        assert not torch.equal(one[draw]['view1'], reference)


def test_no_two_draws_share_their_random_numbers() -> None:
    draws = [Draw(p, e, s) for p in range(4) for e in range(4) for s in range(4)]
    assert len({draw.generator().integers(2**60) for draw in draws}) == len(draws)


@pytest.mark.parametrize('workers', [1, 2])
def test_batches_do_not_depend_on_the_number_of_workers(folder: Path, workers: int) -> None:
    dataset = UnlabeledImages(folder, VIEWS)

    def batches(num_workers: int) -> list[dict[str, torch.Tensor]]:
        sampler = EpochShuffle(dataset, seed=3)
        sampler.set_epoch(4)
        return list(
            DataLoader(
                dataset, batch_size=5, sampler=sampler, num_workers=num_workers, drop_last=True
            )
        )

    expected, got = batches(0), batches(workers)
    assert len(expected) == len(got) == 4
    for one, other in zip(expected, got, strict=True):
        for name in one:
            assert torch.equal(one[name], other[name]), name


def test_workers_do_not_hang_on_opencvs_threads(folder: Path) -> None:
    cv2.setNumThreads(2)
    cv2.GaussianBlur(np.zeros((2000, 2000), np.uint8), (31, 31), 5)  # starts the pool
    dataset = UnlabeledImages(folder, VIEWS)
    loader = DataLoader(
        dataset, batch_size=5, num_workers=2, sampler=EpochShuffle(dataset, 0), timeout=300
    )
    assert len(list(loader)) == 5
    cv2.setNumThreads(2)
    pickle.loads(pickle.dumps(dataset))  # as in a spawned worker
    assert cv2.getNumThreads() == 1


def test_limit_spreads_over_the_folders(folder: Path) -> None:
    dataset = UnlabeledImages(folder, VIEWS, limit=4)
    assert list(dataset.paths) == [
        'class0/0000.jpg', 'class0/0010.jpg', 'class0/0022.jpg', 'class1/0011.jpg',
    ]  # fmt: skip
    assert len(UnlabeledImages(folder, VIEWS, limit=100)) == 23


def test_corrupt_images_are_replaced_and_reported(tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, count=10)
    (tmp_path / paths[3]).write_bytes(b'')
    cut = (tmp_path / paths[6]).read_bytes()
    (tmp_path / paths[6]).write_bytes(cut[: len(cut) // 2])
    dataset = UnlabeledImages(tmp_path, VIEWS)
    replaced = set()
    for epoch in range(8):
        for image in range(10):
            sample = dataset[Draw(image, epoch)]
            if image in (3, 6):
                assert sample['corrupt_index'] == image
                assert sample['index'] not in (3, 6)
                replaced.add(sample['index'])
                again = dataset[Draw(image, epoch)]
                assert torch.equal(again['view1'], sample['view1'])
            else:
                assert sample['corrupt_index'] == -1
                assert sample['index'] == image
    assert len(replaced) > 3, 'always the same stand-ins'
    assert dataset.fault(0) is None
    assert 'empty' in str(dataset.fault(3))
    assert 'cut short' in str(dataset.fault(6))


def test_a_image_that_is_gone_is_replaced(tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, count=3)
    dataset = UnlabeledImages(tmp_path, VIEWS)
    os.remove(tmp_path / paths[1])
    assert dataset[1]['corrupt_index'] == 1
    assert 'No such file' in str(dataset.fault(1))


def test_bad_folders_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match=f'data_root images does not exist.*{tmp_path}'):
        UnlabeledImages('images', VIEWS)
    empty = tmp_path / 'empty'
    empty.mkdir()
    (empty / 'notes.txt').touch()
    with pytest.raises(UserError, match=r'empty holds no image \(.jpg.*give the folder'):
        UnlabeledImages(empty, VIEWS)
    with pytest.raises(UserError, match='is not a folder'):
        UnlabeledImages(empty / 'notes.txt', VIEWS)
    save_photographs(empty, count=1)
    with pytest.raises(UserError, match='empty holds one image'):
        UnlabeledImages(empty, VIEWS)
    with pytest.raises(UserError, match='limit is 1'):
        UnlabeledImages(empty, VIEWS, limit=1)


def test_a_folder_of_nothing_but_broken_images_is_refused(tmp_path: Path) -> None:
    for number in range(12):
        (tmp_path / f'{number}.jpg').write_text('version https://git-lfs.github.com/spec/v1\n')
    with pytest.raises(UserError, match=r'none of 12 images.*0\.jpg: not an image'):
        UnlabeledImages(tmp_path, VIEWS)


def test_a_run_of_broken_images_ends_in_an_error(tmp_path: Path) -> None:
    paths = save_photographs(tmp_path, count=6)
    dataset = UnlabeledImages(tmp_path, VIEWS)
    for path in paths:
        (tmp_path / path).write_bytes(b'')
    with pytest.raises(UserError, match=paths[2]):
        dataset[2]


def indices(sampler: EpochShuffle) -> list[int]:
    return [draw.image for draw in sampler]


def test_each_epoch_is_a_permutation_of_its_own() -> None:
    sampler = DATA_SAMPLERS.build({'type': 'EpochShuffle', 'dataset': range(50), 'seed': 1})
    assert len(sampler) == 50
    orders = []
    for epoch in range(3):
        sampler.set_epoch(epoch)
        draws = list(sampler)
        assert {(draw.epoch, draw.seed) for draw in draws} == {(epoch, 1)}
        orders.append([draw.image for draw in draws])
        assert sorted(orders[-1]) == list(range(50))
        assert indices(sampler) == orders[-1], 'iterating again changes nothing'
    assert orders[0] != orders[1] != orders[2] != orders[0]
    assert indices(EpochShuffle(range(50), seed=2)) != orders[0]
    assert indices(EpochShuffle(range(50), seed=1)) == orders[0]


def test_skipping_leaves_the_rest_of_the_epoch() -> None:
    sampler = EpochShuffle(range(50), seed=1)
    whole = indices(sampler)
    for samples in (0, 1, 17, 50):
        sampler.skip(samples)
        assert indices(sampler) == whole[samples:]
        assert len(sampler) == 50
    sampler.set_epoch(0)
    assert indices(sampler) == whole, 'a new epoch starts at its beginning'


def test_processes_share_an_epoch_evenly(monkeypatch: pytest.MonkeyPatch) -> None:
    left_out = set()
    for epoch in range(6):
        shares = []
        for rank in range(3):
            monkeypatch.setattr(epoch_order, 'get_dist_info', lambda rank=rank: (rank, 3))
            sampler = EpochShuffle(range(50), seed=1)
            sampler.set_epoch(epoch)
            assert len(sampler) == 16
            shares.append(indices(sampler))
            sampler.skip(10)
            assert indices(sampler) == shares[-1][10:]
        together = [image for share in shares for image in share]
        assert [len(share) for share in shares] == [16, 16, 16]
        assert len(set(together)) == 48
        left_out |= set(range(50)) - set(together)
    assert len(left_out) > 2, 'other images are left out in other epochs'
