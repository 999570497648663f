"""Subsets of training images by lists of file names, as ImageNet's low-shot splits are published.

One file name a line, whose class is the text before its last ``_``: ``n01440764_10026.JPEG``. The
lists are in valeoai/MOCA (``eval/imagenet_subsets{1,2,3}``), facebookresearch/msn (the same) and
google-research/simclr (``imagenet_subsets/1percent.txt``); they are not shipped.
"""

from __future__ import annotations

import os
from collections import Counter
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.errors import UserError
from moca.evaluation.labeled import Labeled

PUBLISHED = {
    'ffa4f960419ce754': ('1shot', 1),
    '9b0c2d1957ad7a11': ('2shot', 1),
    'f8daf7e637fafe92': ('5shot', 1),
    '71e82a48ba782526': ('1pct', 1),
    '7f13beaba20a6e64': ('1shot', 2),
    '35b93fb0d809b17a': ('2shot', 2),
    '284603d071f36b29': ('5shot', 2),
    'd77d56527da4842b': ('1shot', 3),
    '400ae5a31e01bc1a': ('2shot', 3),
    'eaab6e72d1ea83c3': ('5shot', 3),
}
"""Name and number of the split, by the first 16 digits of a published list's SHA-256. (5 images a
class of split 3 are in a file that is called ``3imgs_class.txt``.)"""

REPOSITORIES = 'valeoai/MOCA, facebookresearch/msn and google-research/simclr'

_SHOWN = 3


@dataclass(frozen=True, eq=False)
class Subset:
    """Some training images.

    Attributes:
        name: ``1shot``, ``2shot``, ``5shot`` or ``1pct`` of published lists; else the file's.
        split: Which of several of that name, from 1 up.
        places: ``[n]`` int64, where they are in the training set, in the order of the list.
        source: The list's file.
        sha256: Of its content, 16 digits.
        published: Whether it is one of the published lists.
    """

    name: str
    split: int
    places: NDArray[np.int64]
    source: Path
    sha256: str
    published: bool


def read_lists(folder: str | Path, images: Labeled, field: str) -> list[Subset]:
    """Every list below a folder, by name and split; lists of one's own are as good.

    Args:
        folder: With files ``*.txt``, or folders of them.
        images: The training set that they name images of.
        field: What to call the folder in messages.

    Raises:
        UserError: There is no list, one names an image that is not there, or of another class than
            its folder, or twice, or none of a class; with file and line.
    """
    paths = sorted(path for path in Path(folder).rglob('*.txt') if path.is_file())
    if not paths:
        raise UserError(
            f'{field} {folder}: no list in there. Give a folder with files *.txt of one file name '
            f'a line, such as those of {REPOSITORIES}.'
        )
    known = _places(images, paths[0])
    found: list[Subset] = []
    for path in paths:
        digest = sha256(path.read_bytes()).hexdigest()[:16]
        places = _read(path, known, images)
        name, split = PUBLISHED.get(digest, (path.stem, 0))
        found.append(Subset(name, split, places, path, digest, digest in PUBLISHED))
    own = [subset for subset in found if not subset.published]
    if own:
        names = ', '.join(str(subset.source) for subset in own[:_SHOWN])
        more = ' ...' if len(own) > _SHOWN else ''
        print_log(
            f'{field}: {len(own)} of {len(found)} lists are none of those of {REPOSITORIES} '
            f'({names}{more}); scores are not comparable with published ones.',
            'current',
            level=30,
        )
    return sorted(_numbered(found), key=lambda subset: (len(subset.places), subset.split))


def _numbered(found: list[Subset]) -> list[Subset]:
    """Number lists of one's own that share a name in the order of their paths; check the others."""
    taken: dict[tuple[str, int], Path] = {}
    seen: Counter[str] = Counter()
    numbered = []
    for subset in found:
        split = subset.split
        if not subset.published:
            seen[subset.name] += 1
            split = seen[subset.name]
        other = taken.setdefault((subset.name, split), subset.source)
        if other != subset.source:
            raise UserError(
                f'{subset.source} and {other} are both {subset.name}, split {split}. Leave one out.'
            )
        numbered.append(replace(subset, split=split))
    return numbered


def _places(images: Labeled, first: Path) -> dict[str, int]:
    """The place of every image by its file's name."""
    if images.pixels is not None:
        raise UserError(
            f'{first}: a list names files, and these images come in one file. Leave the lists out: '
            'images are then drawn from each class.'
        )
    names = [os.path.basename(os.fsdecode(bytes(path))) for path in images.paths]
    places = {name: place for place, name in enumerate(names)}
    if len(places) < len(names):
        twice = next(name for name, count in Counter(names).items() if count > 1)
        raise UserError(
            f'{first}: file names do not tell images apart: {twice} is in several classes. Rename '
            'the images, or leave the lists out.'
        )
    return places


def _read(path: Path, known: dict[str, int], images: Labeled) -> NDArray[np.int64]:
    lines = [line.strip() for line in path.read_text().splitlines()]
    places: dict[str, int] = {}
    for number, name in enumerate(lines, 1):
        if not name:
            continue
        where = f'{path}, line {number}: {name}'
        if name in places:
            raise UserError(f'{where} is there a second time. Remove one of them.')
        if name not in known:
            raise UserError(f'{where} is none of the training images.{_hint(name, known)}')
        place = known[name]
        folder, said = images.classes[images.labels[place]], name.rpartition('_')[0]
        if said != folder:
            raise UserError(
                f'{where} is of the class {said or "(none)"} by its name, and lies in the folder '
                f'{folder}. A list needs file names of CLASS_NUMBER in folders of their class.'
            )
        places[name] = place
    found = np.array(list(places.values()), np.int64)
    missing = np.setdiff1d(np.arange(len(images.classes)), images.labels[found])
    if len(missing):
        shown = ', '.join(images.classes[label] for label in missing[:_SHOWN])
        more = ' ...' if len(missing) > _SHOWN else ''
        raise UserError(
            f'{path}: no image of {len(missing)} classes ({shown}{more}), which would never be '
            'answered. Complete the list, or give images of its classes alone.'
        )
    return found


def _hint(name: str, known: dict[str, int]) -> str:
    """What the image is called instead, where case or suffix is all that differs."""
    stem = os.path.splitext(name)[0].lower()
    like = next((other for other in known if os.path.splitext(other)[0].lower() == stem), None)
    if like is None:
        return ' Complete the training set, or take the line out.'
    return f' There is {like}: rename it, or the line.'
