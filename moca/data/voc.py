"""Pascal VOC 2012 made ready: label maps of SBD's annotations beside VOC's own, and their list."""

from __future__ import annotations

import io
import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from moca.data.prepare import Prepared, is_whole
from moca.data.survey import Watch
from moca.errors import UserError
from moca.images.files import require_files
from moca.records.whole_files import write_atomically
from moca.segmentation.label_files import LabelFault, read_values
from moca.segmentation.label_maps import LabelRule

IMAGES = {'trainaug': 10_582, 'val': 1449}
"""Images of VOC's training set with SBD's, those of VOC's validation left out, and of the latter.
Source: mmsegmentation, tools/dataset_converters/voc_aug.py."""

AUG = 'SegmentationClassAug'
_LISTS = Path('ImageSets/Segmentation')
_SBD = ('cls', 'dataset/cls', 'benchmark_RELEASE/dataset/cls')
"""Where SBD's .mat files lie: below the folder that benchmark.tgz unpacks, or beside it."""

_RULE = LabelRule(num_classes=21)


def prepare_voc(root: Path, sbd: Path | None, watch: Watch) -> tuple[Path, list[Prepared]]:
    """Make ``SegmentationClassAug`` and ``trainaug.txt`` as far as they are missing, and check all.

    A label map that is there stays. Missing ones are VOC's own where VOC has one, which is the
    better, and else SBD's. The list is of all names in VOC's ``train.txt`` and in SBD (or in
    ``SegmentationClassAug``, where that was downloaded) without those of ``val.txt``, sorted.

    Args:
        root: ``VOC2012``, or ``VOCdevkit`` or the folder that holds it.
        sbd: folder of SBD, with ``dataset/cls/*.mat``; None to look for it in `root`.
        watch: shows progress.

    Returns:
        The folder to give as ``--data-root``, and what is there.

    Raises:
        UserError: naming the folder or file that is missing or wrong.
    """
    root = _voc_folder(root)
    train, val = (_names(root / _LISTS / f'{split}.txt') for split in ('train', 'val'))
    mats = _sbd_files(root if sbd is None else sbd, required=sbd is not None)
    folder = root / AUG
    there = {path.stem for path in folder.glob('*.png')}
    path = root / _LISTS / 'trainaug.txt'
    listed = sorted({*train, *mats, *there} - set(val))
    if path.is_file():
        listed = _names(path)
    elif set(listed) == set(train):
        raise UserError(
            f'{root}: neither {AUG}/*.png nor SBD in it ({", ".join(f"{p}/*.mat" for p in _SBD)}). '
            "Name SBD's folder with --sbd, or unpack SegmentationClassAug.zip there."
        )
    if leaked := sorted(set(listed) & set(val)):
        raise UserError(
            f'{path}: {len(leaked)} images of val.txt are in it, such as {leaked[0]}. Remove the '
            'list and prepare again.'
        )
    require_files([root / 'JPEGImages' / f'{name}.jpg' for name in listed], f'of {path}')
    todo = [name for name in listed if not is_whole(folder / f'{name}.png')]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        made = pool.map(partial(_make, root, mats), todo)
        for _ in watch(made, len(todo), 'trainaug: label maps'):
            pass
    _check_values(folder, listed)
    if not path.is_file():
        write_atomically(path, '\n'.join([*listed, '']).encode())
    labels = [root / 'SegmentationClass' / f'{name}.png' for name in val]
    require_files(labels, 'the label maps of val.txt', ' Unpack VOCtrainval_11-May-2012.tar again.')
    return root, [
        Prepared('trainaug', len(listed), IMAGES['trainaug'], len(todo)),
        Prepared('val', len(val), IMAGES['val']),
    ]


def _voc_folder(root: Path) -> Path:
    for folder in (root, root / 'VOC2012', root / 'VOCdevkit' / 'VOC2012'):
        if (folder / _LISTS).is_dir():
            return folder
    raise UserError(
        f'{root}: no {_LISTS}, nor in VOC2012 or VOCdevkit/VOC2012 below it. Give the folder into '
        'which VOCtrainval_11-May-2012.tar was unpacked.'
    )


def _names(path: Path) -> list[str]:
    if not path.is_file():
        raise UserError(f'{path}: no such file. Unpack VOCtrainval_11-May-2012.tar again.')
    names = path.read_text(encoding='utf-8').split()
    if not names:
        raise UserError(f'{path}: the list is empty. Unpack VOCtrainval_11-May-2012.tar again.')
    return names


def _sbd_files(folder: Path, required: bool) -> dict[str, Path]:
    """SBD's files by the names of their images."""
    for inner in _SBD:
        found = {path.stem: path for path in sorted((folder / inner).glob('*.mat'))}
        if found:
            return found
    if required:
        raise UserError(f'--sbd {folder}: no {", no ".join(f"{part}/*.mat" for part in _SBD)}.')
    return {}


def _make(root: Path, mats: dict[str, Path], name: str) -> None:
    """Write one label map; a file that is there whole appears or none."""
    own, target = root / 'SegmentationClass' / f'{name}.png', root / AUG / f'{name}.png'
    if own.is_file():
        write_atomically(target, own.read_bytes())
        return
    if name not in mats:
        raise UserError(
            f'{target}: missing, and neither {own.parent} nor SBD has it. Name the whole of SBD '
            "with --sbd, or take it out of trainaug.txt's list."
        )
    stream = io.BytesIO()
    Image.fromarray(_read_mat(mats[name])).save(stream, 'PNG')
    write_atomically(target, stream.getvalue())


def _read_mat(path: Path) -> Any:
    """The label map ``[H, W]`` uint8 of an SBD file (its field ``GTcls.Segmentation``).

    Raises:
        UserError: if the file is none of SBD's.
    """
    from scipy.io import loadmat  # late: only this needs it

    try:
        values = loadmat(path)['GTcls'][0]['Segmentation'][0]
    except Exception as error:  # whatever broken bytes lead scipy to
        raise UserError(f'{path}: no annotation of SBD ({error}). Fetch it again.') from error
    return np.asarray(values, np.uint8)


def _check_values(folder: Path, names: list[str]) -> None:
    """Decode the first label map: a folder of colors is found now, and not after an hour."""
    path = folder / f'{names[0]}.png'
    try:
        _RULE.convert(read_values(path))
    except LabelFault as fault:
        raise UserError(f'{path}: {fault}.') from fault
