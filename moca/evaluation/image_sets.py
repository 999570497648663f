"""Labeled images by their folder: class folders, CIFAR's files, Tiny-ImageNet's flat `val`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from hashlib import file_digest, sha256
from pathlib import Path

import numpy as np
import torch
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.evaluation.labeled import Labeled, read_folder

ANNOTATIONS = 'val_annotations.txt'
"""In Tiny-ImageNet's `val`: file name, class and box of each image of its flat folder."""

CIFAR = {'cifar-10-batches-py': 'CIFAR10', 'cifar-100-python': 'CIFAR100'}
"""Folders of CIFAR's files for Python, and torchvision's class that reads them."""

# Files whose bytes are compared, at most: a set that leaks into another rarely does by one image.
_COMPARED = 2000
# Share of queries: published sets have some twins in train and val [the limit is our choice].
_FEW = 0.01
_SHOWN = 3


def read_image_set(data_root: str | Path, split: str, field: str) -> Labeled:
    """Read a labeled set of images.

    - ``DATA_ROOT/SPLIT`` with one folder a class, as torchvision's ``ImageFolder``;
    - ``DATA_ROOT/SPLIT`` with ``val_annotations.txt``, as Tiny-ImageNet's `val` comes; its classes
      are those of the folder ``train`` beside it;
    - CIFAR-10's or CIFAR-100's files for Python in `data_root`, of which `split` is ``train`` or
      ``test``.

    Args:
        data_root: Folder of the data.
        split: Folder below it; empty for the folder itself.
        field: What to call it in messages, such as ``evaluation.bank``.

    Raises:
        UserError: It is none of these, or a class has no image.
    """
    root = Path(data_root)
    folder = root / split
    if (folder / ANNOTATIONS).is_file():
        return _read_flat(folder, root / 'train', field)
    _check_no_flat(folder, field)
    if split and not folder.is_dir():
        found = [name for name in CIFAR if (root / name).is_dir()]
        if found:
            return _read_cifar(root, found, split, field)
        raise UserError(
            f'{field}: {root} has no folder {split!r} of class folders, and no '
            f'{" or ".join(CIFAR)}. Give --data-root a folder with one of them (CIFAR: unpack the '
            '"python version" of www.cs.toronto.edu/~kriz/cifar.html there).'
        )
    return read_folder(folder, field)


def _check_no_flat(folder: Path, field: str) -> None:
    """Refuse Tiny-ImageNet's flat `val` without its labels, whose only class would be `images`."""
    if folder.is_dir() and [path.name for path in folder.iterdir() if path.is_dir()] == ['images']:
        raise UserError(
            f'{field}: {folder} has the folder images alone and no {ANNOTATIONS}, which has the '
            'labels of Tiny-ImageNet. Put it back, or sort the images into class folders.'
        )


def _read_flat(folder: Path, train: Path, field: str) -> Labeled:
    """Tiny-ImageNet's `val`, whose images are in one folder."""
    lines = (folder / ANNOTATIONS).read_text().splitlines()
    rows = [line.split('\t')[:2] for line in lines if line.strip()]
    wrong = next((number for number, row in enumerate(rows, 1) if len(row) != 2), None)
    if wrong is not None:
        raise UserError(
            f'{folder / ANNOTATIONS}, line {wrong}: no file name and class with a tab between. '
            'Unpack tiny-imagenet-200.zip again.'
        )
    if not train.is_dir():
        raise UserError(
            f'{field} {folder}: its classes are those of {train}, which is not there. Unpack '
            'tiny-imagenet-200.zip whole.'
        )
    classes = read_folder(train, field).classes
    label = {name: number for number, name in enumerate(classes)}
    unknown = sorted({name for _, name in rows} - set(classes))
    if unknown:
        raise UserError(
            f'{folder / ANNOTATIONS}: {train} has no class {", ".join(unknown[:_SHOWN])}. Unpack '
            'tiny-imagenet-200.zip whole.'
        )
    images = folder / 'images' if (folder / 'images').is_dir() else folder
    rows.sort()
    missing = next((name for name, _ in rows if not (images / name).is_file()), None)
    if missing is not None:
        raise UserError(
            f'{folder / ANNOTATIONS} names {missing}, which is not in {images}. Unpack '
            'tiny-imagenet-200.zip again.'
        )
    paths = np.array([os.fsencode(images / name) for name, _ in rows])
    labels = np.array([label[name] for _, name in rows])
    about = f'{field} {folder}: {len(rows):,} images of {len(classes):,} classes, by {ANNOTATIONS}'
    return Labeled(paths, labels, classes, about)


def _read_cifar(root: Path, found: Sequence[str], split: str, field: str) -> Labeled:
    from torchvision import datasets

    if len(found) > 1:
        raise UserError(
            f'{field}: {root} has {" and ".join(found)}. Give --data-root a folder with one.'
        )
    if split not in ('train', 'test'):
        raise UserError(f'{field}: split={split!r} of {found[0]}. Give train or test.')
    name = CIFAR[found[0]]
    try:
        read = getattr(datasets, name)(str(root), train=split == 'train', download=False)
    except (RuntimeError, OSError) as error:
        raise UserError(
            f'{field}: {root / found[0]} is not complete, or not as published ({error}). Unpack '
            'the "python version" of www.cs.toronto.edu/~kriz/cifar.html again.'
        ) from error
    paths = np.array([f'{name}/{split}/{number:05d}'.encode() for number in range(len(read))])
    about = f'{field} {root / found[0]}, {split}: {len(read):,} images'
    about += f' of {len(read.classes):,} classes'
    labels = np.array(read.targets, np.int64)
    return Labeled(paths, labels, tuple(read.classes), about, np.ascontiguousarray(read.data))


def check_apart(bank: Labeled, queries: Labeled, fields: tuple[str, str]) -> None:
    """Verify that a bank's images are not among the queries, by the bytes of files of equal size.

    Of many candidates some are compared, spread over all, since whole sets leak rather than
    single images: twins of up to a hundredth of the queries are only said. Two features that are
    equal because their images are would be taken for a very good answer: with the queries in the
    bank, k-NN accuracy of 21 % becomes 81 %.

    Args:
        bank: Images that are compared with, or learned from.
        queries: Images that are scored.
        fields: What to call them in messages.

    Raises:
        UserError: Naming two files.
    """
    if bank.pixels is not None or queries.pixels is not None:
        if bank.pixels is not None and queries.pixels is not None:
            _check_pixels(bank.pixels, queries.pixels, fields)
        return
    check_files_apart(bank.paths, queries.paths, fields)


def check_files_apart(
    bank: NDArray[np.bytes_], queries: NDArray[np.bytes_], fields: tuple[str, str]
) -> None:
    """Verify that a bank's files are not among the queries, by links and as `check_apart` does.

    Args:
        bank: Paths ``[N]`` of images that are compared with, or learned from.
        queries: Paths of images that are scored.
        fields: What to call them in messages.

    Raises:
        UserError: Naming two files.
    """
    states, asked = [[os.stat(bytes(path)) for path in paths] for paths in (bank, queries)]
    # one file may have two paths, by links
    files = {(state.st_dev, state.st_ino): place for place, state in enumerate(states)}
    keys = [(state.st_dev, state.st_ino) for state in asked]
    linked = [(place, files[key]) for place, key in enumerate(keys) if key in files]
    _judge(linked, 1, bank, queries, fields)
    sizes: dict[int, list[int]] = {}
    for place, state in enumerate(states):
        sizes.setdefault(state.st_size, []).append(place)
    candidates = [
        (place, sizes[state.st_size]) for place, state in enumerate(asked) if state.st_size in sizes
    ]
    step = -(-len(candidates) // _COMPARED) or 1
    known: dict[int, bytes] = {}
    twins = []
    for place, others in candidates[::step]:
        own = _digest(queries[place])
        for other in others[:_COMPARED]:
            if other not in known:
                known[other] = _digest(bank[other])
            if known[other] == own:
                twins.append((place, other))
                break
    _judge(twins, step, bank, queries, fields)


def _judge(
    twins: list[tuple[int, int]],
    step: int,
    bank: NDArray[np.bytes_],
    queries: NDArray[np.bytes_],
    fields: tuple[str, str],
) -> None:
    """Refuse sets that share images, and say so where these are few.

    Args:
        twins: Places of a query and its twin in the bank.
        step: How many candidates each compared one stands for.
        bank, queries, fields: As for `check_files_apart`.
    """
    if not twins:
        return
    query, image = twins[0]
    if len(twins) * step > _FEW * len(queries):
        raise _in_both(queries[query], bank[image], fields)
    print_log(
        f'{fields[1]}: of its images, {len(twins)} compared equal to one of {fields[0]}, byte for '
        f'byte, such as {os.fsdecode(bytes(queries[query]))}. So few change little, and are kept.',
        'current',
        level=30,
    )


def _in_both(query: bytes, image: bytes, fields: tuple[str, str]) -> UserError:
    names = [os.fsdecode(bytes(path)) for path in (query, image)]
    return UserError(
        f'{fields[1]}: {names[0]} is the image {names[1]} of {fields[0]}, byte for '
        'byte, and would find itself. Give sets that have no image in common.'
    )


def _check_pixels(
    bank: NDArray[np.uint8], queries: NDArray[np.uint8], fields: tuple[str, str]
) -> None:
    # CIFAR itself has a few twins in train and test; a set that is given twice has nothing else
    known = {sha256(image.tobytes()).digest() for image in bank}
    shared = sum(sha256(image.tobytes()).digest() in known for image in queries)
    if 2 * shared > len(queries):
        raise UserError(
            f'{fields[1]}: {shared:,} of its {len(queries):,} images are in {fields[0]} as well '
            'and would find themselves. Give another split.'
        )


def draw_per_class(images: Labeled, count: int | None, seed: int, field: str) -> NDArray[np.int64]:
    """Places of some images of each class; those of a smaller number are among those of a larger.

    Per class, in their order, the first of ``torch.randperm`` of one generator with the seed. It
    permutes a class's images in the order of their names, of which numbers count as such: ``_9``
    comes before ``_10``, so that a draw is the same whether numbers were written with zeros or not.

    Args:
        images: All of them.
        count: Of each class; None for all.
        seed: Of the draw.
        field: What asks for so many, for messages.

    Raises:
        UserError: A class has fewer.
    """
    if count is None:
        return np.arange(len(images))
    generator = torch.Generator().manual_seed(seed)
    found = []
    for label, name in enumerate(images.classes):
        places = np.flatnonzero(images.labels == label)
        if count > len(places):
            raise UserError(
                f'{field}={count}: class {name} has {len(places)} images. Give a smaller number.'
            )
        mine = np.array(sorted(places, key=lambda place: _by_numbers(bytes(images.paths[place]))))
        found.append(mine[torch.randperm(len(mine), generator=generator).numpy()[:count]])
    return np.concatenate(found)


def _by_numbers(path: bytes) -> tuple[list[bytes | int], bytes]:
    """What paths are sorted by so that 9 comes before 10; texts and numbers take turns."""
    parts = re.split(rb'([0-9]+)', path)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], path


def file_states(images: Labeled) -> str:
    """A digest of which images a set has, and of their files' sizes and times of change.

    Of a set that comes in one file, of its pixels.
    """
    digest = sha256()
    if images.pixels is not None:
        digest.update(np.ascontiguousarray(images.pixels).data)
        return digest.hexdigest()
    for path in images.paths:
        state = os.stat(bytes(path))
        digest.update(bytes(path) + f'\0{state.st_size}\0{state.st_mtime_ns}\n'.encode())
    return digest.hexdigest()


def _digest(path: bytes) -> bytes:
    with open(bytes(path), 'rb') as file:
        return file_digest(file, 'sha256').digest()
