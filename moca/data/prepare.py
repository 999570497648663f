"""Making downloads ready: Cityscapes' train ids, and the layout of Cityscapes and ADE20K."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from moca.data.survey import Watch
from moca.errors import UserError
from moca.images.files import image_fault, require_files
from moca.segmentation import cityscapes

ADE20K_IMAGES = {'training': 20_210, 'validation': 2000}
"""Images of the scene-parsing benchmark."""

_ADE20K_FOLDER = 'ADEChallengeData2016'
_AGAIN = ' Unpack the archive of the annotations again.'


@dataclass(frozen=True)
class Prepared:
    """What is there of one part of a data set: its name, images, and label maps made just now."""

    split: str
    images: int
    published: int
    made: int = 0


def prepare_cityscapes(root: Path, watch: Watch) -> list[Prepared]:
    """Make the train ids of a Cityscapes folder and check that every image has them.

    What an earlier, interrupted call has made is kept: files appear whole or not at all.

    Args:
        root: with ``leftImg8bit`` and ``gtFine``, as the two archives unpack.
        watch: shows progress.

    Raises:
        UserError: naming the folder or file that is missing or wrong.
    """
    found = []
    for split, published in cityscapes.IMAGES.items():
        images = sorted((root / 'leftImg8bit' / split).rglob('*_leftImg8bit.png'))
        raw = sorted((root / 'gtFine' / split).rglob(f'*{cityscapes.RAW}'))
        todo = [path for path in raw if not is_whole(cityscapes.train_ids_path(path))]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            made = pool.map(cityscapes.write_train_ids, todo)
            for _ in watch(made, len(todo), f'{split}: train ids'):
                pass
        wanted = [_cityscapes_label(root, split, image) for image in images]
        require_files(wanted, f'the label maps of {root / "leftImg8bit" / split}', _AGAIN)
        found.append(Prepared(split, len(images), published, len(todo)))
    if not any(part.images for part in found):
        raise UserError(
            f'{root}: no images leftImg8bit/(train|val)/CITY/*_leftImg8bit.png.'
            + _archives(root, ('leftImg8bit_trainvaltest.zip', 'gtFine_trainvaltest.zip'))
        )
    return found


def _cityscapes_label(root: Path, split: str, image: Path) -> Path:
    below = image.relative_to(root / 'leftImg8bit' / split)
    name = image.name.removesuffix('_leftImg8bit.png') + cityscapes.TRAIN
    return root / 'gtFine' / split / below.with_name(name)


def is_whole(path: Path) -> bool:
    """Whether a file is there and ends as an image does."""
    return path.is_file() and image_fault(path) is None


def prepare_ade20k(root: Path) -> tuple[Path, list[Prepared]]:
    """Check the layout of ADE20K's scene-parsing benchmark; its label maps are used as they are.

    Args:
        root: ``ADEChallengeData2016`` or the folder that holds it.

    Returns:
        The folder to give as ``--data-root``, and what is there.

    Raises:
        UserError: naming the folder or file that is missing.
    """
    root = root / _ADE20K_FOLDER if (root / _ADE20K_FOLDER).is_dir() else root
    found = []
    for split, published in ADE20K_IMAGES.items():
        images = sorted((root / 'images' / split).glob('*.jpg'))
        if not images:
            raise UserError(
                f'{root}: no images images/{split}/*.jpg.'
                + _archives(root, (f'{_ADE20K_FOLDER}.zip',))
            )
        labels = [root / 'annotations' / split / f'{image.stem}.png' for image in images]
        require_files(labels, f'the label maps of {root / "images" / split}', _AGAIN)
        found.append(Prepared(split, len(images), published))
    return root, found


def _archives(root: Path, names: tuple[str, ...]) -> str:
    there = [name for name in names if (root / name).is_file()]
    if there:
        return f' Unpack {" and ".join(there)} there first.'
    return f' Give the folder into which {" and ".join(names)} were unpacked.'
