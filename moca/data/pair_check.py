"""The quick check of a mmseg data set before a run: every file, and some label maps' content."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.logging import print_log
from numpy.typing import NDArray

from moca.data.pairs import Pairs, find_pairs, missing_label_hint, unused_notes
from moca.errors import UserError
from moca.images.files import evenly_spread, log_turned, require_files, require_whole
from moca.segmentation.label_files import LabelFault, header_fault, read_values
from moca.segmentation.label_maps import IGNORE, LabelRule

DECODED = 32  # label maps of a split that are decoded before a run
_THREADS = 8


@dataclass(frozen=True)
class Looked:
    """Label maps of which some were decoded.

    Attributes:
        pairs: all of them.
        places: of those that were decoded.
        counts: their pixels of each class, `[256]`; the last are ignored.
    """

    pairs: Pairs
    places: Sequence[int]
    counts: NDArray[np.int64]


def check_pairs(dataset: dict[str, Any], field: str) -> Looked:
    """Check that every image has a label map of its size, and what some of them hold.

    All files are looked at, of which `DECODED` label maps, evenly spread, are decoded; the others
    are checked as they are loaded.

    Returns:
        What the decoded ones hold; nothing where labels are not ours to read, or there are none.

    Raises:
        UserError: naming the first file that is missing, broken or wrong.
    """
    pairs = find_pairs(dataset, field)
    for note in pairs.notes:
        print_log(f'{field}: {note}.', 'current', level=30)
    require_files(pairs.images, f'listed in {pairs.source}')
    hint = missing_label_hint(pairs.labels, dataset)
    require_files(pairs.labels, f'the label maps of {pairs.source}', hint)
    require_whole([*pairs.images, *pairs.labels])
    log_turned(pairs.images)
    if pairs.rule is None:
        return Looked(pairs, [], np.zeros(256, np.int64))
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(header_fault, pairs.labels, pairs.images, chunksize=64))
    _require_right(pairs.labels, found)
    places = evenly_spread(len(pairs.labels), DECODED)
    return Looked(pairs, places, _counted(pairs, places))


def check_together(parts: Sequence[Looked], field: str) -> None:
    """Check the data sets of one data loader together.

    Their label maps have to hold two classes or more: where the decoded ones do not, others are
    decoded until a second class turns up. What lies in their folders and is not read, is said.

    Raises:
        UserError: if there is only one class, or all is ignored, or images are left out for the
            spelling of their ending alone, or have label maps and another ending.
    """
    for note in unused_notes([part.pairs for part in parts]):
        print_log(f'{field}: {note}.', 'current', level=30)
    parts = [part for part in parts if part.pairs.rule is not None]
    if not parts:
        return
    counts = np.sum([part.counts for part in parts], axis=0)
    rule, names, number = parts[0].pairs.rule, parts[0].pairs.names, 0
    assert rule is not None
    for part in parts:
        rest = sorted(set(range(len(part.pairs.labels))) - set(part.places))
        number += len(part.pairs.labels)
        while rest and rule.few_classes(counts, names):
            counts = counts + _counted(part.pairs, rest[:DECODED])
            rest = rest[DECODED:]
    text = rule.few_classes(counts, names)
    if text is None:
        return
    first = parts[0].pairs.labels[0]
    where = f'this and all {number} label maps of {field}'
    if number == 1:
        where = f'this, the only label map of {field}'
    if not counts[:IGNORE].any():
        raise UserError(f'{first}: every pixel is ignored ({IGNORE}), in {where}: {text}.')
    raise UserError(f'{first}: in {where}, {text}. There is nothing to tell apart.')


def _counted(pairs: Pairs, places: Sequence[int]) -> NDArray[np.int64]:
    """Pixels of each class in some label maps, `[256]`; raises if one of them is wrong."""
    chosen = [pairs.labels[place] for place in places]
    with ThreadPoolExecutor(_THREADS) as pool:
        found = list(pool.map(lambda path: count_classes(path, pairs.rule), chosen))
    _require_right(chosen, [result if isinstance(result, str) else None for result in found])
    total: NDArray[np.int64] = np.sum(found, axis=0)
    return total


def _require_right(paths: Sequence[Path], faults: Iterable[str | None]) -> None:
    wrong = [(path, fault) for path, fault in zip(paths, faults, strict=True) if fault]
    if wrong:
        path, fault = wrong[0]
        raise UserError(f'{path}: {fault}. So {len(wrong)} of {len(paths)} label maps looked at.')


def count_classes(path: Path, rule: LabelRule | None) -> Any:
    """Pixels of each class in a label map, int64 `[256]`, or what is wrong with it as text."""
    try:
        values = read_values(path)
        labels = values if rule is None else rule.convert(values)
    except LabelFault as fault:
        return str(fault)
    return np.bincount(labels.ravel(), minlength=256)
