"""Class lists of a run's splits and of the sets that only test a classifier of ImageNet."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import resources

from timm.data import ImageNetInfo
from timm.data.real_labels import RealLabelsImagenet

from moca.errors import UserError

VARIANTS = ('imagenet-a', 'imagenet-r', 'imagenet-sketch', 'imagenet-v2', 'imagenet-real')
"""Sets of images on which a classifier of ImageNet's 1000 classes is tested as it is."""

_OF_SOME_CLASSES = {'imagenet-a': 'imagenet_a_indices.txt', 'imagenet-r': 'imagenet_r_indices.txt'}


def imagenet_synsets() -> tuple[str, ...]:
    """WordNet names of ImageNet's classes in the order of their labels, by timm's table."""
    return tuple(ImageNetInfo().label_names())


def kept_classes(variant: str) -> list[int] | None:
    """The 200 labels that a set's images are of (A and R), by timm's tables; None for all.

    Logits are cut to them before they are compared: bytedance/ibot,
    analysis/natural_adv_examples/eval.py:33-91.
    """
    if variant not in _OF_SOME_CLASSES:
        return None
    table = resources.files('timm.data').joinpath('_info', _OF_SOME_CLASSES[variant])
    return sorted(int(line) for line in table.read_text().split())


def variant_labels(variant: str, folders: Sequence[str], where: str) -> list[int]:
    """Labels of ImageNet's 1000 classes for the folders of a set, in the order given.

    ImageNet-V2's folders are the labels themselves, 0 to 999, which a listing sorts as text (0, 1,
    10, 100, ...). Other sets' are WordNet names.

    Args:
        variant: Of :data:`VARIANTS`.
        folders: Names of the class folders.
        where: What to call them in messages.

    Raises:
        UserError: No such set, or a folder that is none of its classes.
    """
    if variant not in VARIANTS:
        raise UserError(f'variant={variant!r} is none of {", ".join(VARIANTS)}.')
    label = {name: number for number, name in enumerate(imagenet_synsets())}
    if variant == 'imagenet-v2':
        label = {str(number): number for number in range(len(label))}
    kept = kept_classes(variant)
    found = []
    for folder in folders:
        number = label.get(folder)
        if number is None or (kept is not None and number not in kept):
            raise UserError(
                f'{where}: its folder {folder!r} is no class of {variant}. Give the folder that '
                'holds the class folders as they were published.'
            )
        found.append(number)
    return found


def real_labels(names: Sequence[str], where: str) -> list[list[int]]:
    """The right classes of images of ImageNet's validation set, none to several each (ReaL).

    Args:
        names: File names such as ``ILSVRC2012_val_00000001.JPEG``.
        where: What to call them in messages.

    Raises:
        UserError: A name is none of the 50,000.
    """
    table = RealLabelsImagenet(range(50_000)).real_labels
    for name in names:
        if name not in table:
            raise UserError(
                f"{where}: {name!r} is no image of ImageNet's validation set, whose names "
                '(ILSVRC2012_val_00000001.JPEG) ReaL goes by. Keep the names as published.'
            )
    return [list(table[name]) for name in names]


def check_same_classes(train: Sequence[str], other: Sequence[str], what: str, where: str) -> None:
    """Verify that two lists of classes are the same, in the same order.

    Args:
        train: Of the images that a head was trained on.
        other: Of those that it is to be tested on.
        what: Whose the first list is.
        where: Whose the second list is.

    Raises:
        UserError: Naming the first difference.
    """
    if list(train) == list(other):
        return
    missing = [name for name in train if name not in set(other)]
    added = [name for name in other if name not in set(train)]
    if missing or added:
        parts = [
            f'{text} {", ".join(map(repr, names[:3]))}{" ..." if len(names) > 3 else ""}'
            for text, names in (('lacks', missing), ('also has', added))
            if names
        ]
        detail = ' and '.join(parts)
    else:
        place = next(i for i, pair in enumerate(zip(train, other, strict=True)) if len({*pair}) > 1)
        detail = f'has {other[place]!r} for {train[place]!r} at place {place}'
    raise UserError(
        f'{where}: its classes are not those of {what}: it {detail}. Labels count classes in this '
        'order: give the same folders to both.'
    )
