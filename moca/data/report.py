"""What a survey of data found: tables on the terminal and a sheet of images with their labels."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moca import figures
from moca.data.pairs import Pairs
from moca.data.survey import Survey
from moca.images.files import evenly_spread
from moca.images.image_io import read_pixels
from moca.images.shown_names import shown_names
from moca.segmentation.label_files import read_values
from moca.segmentation.label_maps import IGNORE

_SHOWN = 10  # files of a kind that are named
BAR = 20  # characters of the longest bar
CLASSES = 40  # in the table
_DRAWN = 1600  # pixels of the longer side of an image in the sheet [choice]: a slide would take GBs
_LEGEND = 24  # in the legend of the sheet, the most frequent ones


def show(surveys: Sequence[Survey], console: Console) -> None:
    """Print sizes, classes and faults of every data set."""
    console.print(_summary(surveys))
    listed = [survey for survey in surveys if survey.pairs and survey.pixels.any()]
    if listed:
        console.print(_histogram(listed))
    for survey in surveys:
        print_notes(survey.name, _notes(survey, surveys[0]), survey.faults, console)


def print_notes(name: str, notes: Sequence[str], faults: Sequence[str], console: Console) -> None:
    """Print what the owner of a data set should know, and the first of its faults."""
    for text in notes:
        console.print(f'[yellow]{name}: {escape(text)}', soft_wrap=True)
    for fault in faults[:_SHOWN]:
        console.print(f'[red]{name}: {escape(fault)}', soft_wrap=True)
    if len(faults) > _SHOWN:
        console.print(f'[red]{name}: and {len(faults) - _SHOWN} more')


def _summary(surveys: Sequence[Survey]) -> Table:
    table = Table('data', 'images', 'sizes', 'classes', 'ignored', 'faults')
    for survey in surveys:
        labeled, ignored = survey.pixels[:IGNORE].sum(), survey.pixels[IGNORE]
        share = f'{ignored / (labeled + ignored):.1%}' if labeled + ignored else '-'
        names = survey.pairs.names if survey.pairs else []
        table.add_row(
            survey.name,
            str(len(survey.pairs.images)) if survey.pairs else '-',
            size_range(survey.sizes),
            f'{(survey.pixels[: len(names)] > 0).sum()} of {len(names)}' if names else '-',
            share,
            f'[red]{len(survey.faults)}' if survey.faults else '0',
        )
    return table


def size_range(sizes: Counter[tuple[int, int]]) -> str:
    """Say of which sizes (width, height) images are."""
    if not sizes:
        return '-'
    (width, height), count = sizes.most_common(1)[0]
    if len(sizes) == 1:
        return f'{width} x {height}'
    widths, heights = zip(*sizes, strict=True)
    return (
        f'{min(widths)} to {max(widths)} x {min(heights)} to {max(heights)}, '
        f'{count} of {width} x {height}'
    )


def _histogram(surveys: Sequence[Survey]) -> Table:
    """Share of labeled pixels of each class, and how many images contain it."""
    table = Table('', 'class')
    for survey in surveys:
        table.add_column(f'{survey.name}, pixels', justify='right')
        table.add_column('images', justify='right')
    table.add_column('')
    first = surveys[0]
    names = first.pairs.names if first.pairs else []
    order = list(range(len(names)))
    if len(names) > CLASSES:
        frequent = np.argsort(-first.pixels[: len(names)], kind='stable')
        order = sorted(frequent[:CLASSES].tolist())
        table.title = f'The {CLASSES} most frequent of {len(names)} classes'
    largest = max(first.pixels[: len(names)].max(), 1)
    for number in order:
        cells = []
        for survey in surveys:
            share = survey.pixels[number] / max(survey.pixels[:IGNORE].sum(), 1)
            images_with = int(survey.images[number])
            cells += [f'{share:.2%}' if images_with else '', str(images_with or '-')]
        bar = '█' * round(BAR * first.pixels[number] / largest)
        table.add_row(str(number), escape(names[number]), *cells, bar)
    return table


def _notes(survey: Survey, first: Survey) -> list[str]:
    """What is no fault, but what its owner should know."""
    notes = [*survey.notes]
    if survey.ignored:
        notes.append(
            f'{len(survey.ignored)} label maps have no labeled pixel: {named(survey.ignored)}'
        )
    notes += [f'{len(where):,} {what}: {named(where)}' for what, where in survey.odd.items()]
    if survey.orphans:
        notes.append(f'{len(survey.orphans)} label maps have no image: {named(survey.orphans)}')
    if survey.pairs and not survey.pairs.label_folder:
        notes.append('no label maps: a test set to predict, not to score')
    elif survey.pairs and survey.pairs.rule is None:
        notes.append('the label maps are read by a transform of your own: they were not looked at')
    if survey.pairs and survey is not first and first.pixels.any():
        unseen = (survey.pixels > 0) & (first.pixels == 0)
        unseen[IGNORE] = False
        names = [survey.pairs.names[number] for number in np.flatnonzero(unseen)]
        if names:
            notes.append(f'classes that {first.name} has not: {", ".join(names)}')
    return notes


def named(paths: Sequence[Path | str]) -> str:
    """The first three, and how many more."""
    more = f' and {len(paths) - 3} more' if len(paths) > 3 else ''
    return ', '.join(map(str, paths[:3])) + more


def sheet(surveys: Sequence[Survey], out: Path, count: int) -> bool:
    """Draw images of each data set, and beside them with their labels laid over.

    Args:
        surveys: what was found.
        out: file to write.
        count: images of each data set, evenly spread over those without a fault.

    Returns:
        Whether there was anything to draw.
    """
    columns: list[list[Any]] = []
    files: list[list[str]] = []
    titles: list[str] = []
    seen = np.zeros(256, np.int64)
    names: Sequence[str] = ()
    palette: Sequence[Sequence[int]] = ()
    for survey in surveys:
        if survey.pairs is None or survey.pairs.rule is None or not survey.right:
            continue
        places = [survey.right[i] for i in evenly_spread(len(survey.right), count)]
        drawn = [_draw(survey.pairs, place) for place in places]
        files += [shown_names([survey.pairs.images[place] for place in places]), []]
        columns += [[image for image, _, _ in drawn], [over for _, over, _ in drawn]]
        titles += [survey.name, f'{survey.name}, labels']
        seen += np.sum([counts for _, _, counts in drawn], axis=0)
        names, palette = survey.pairs.names, survey.pairs.palette
    if not columns:
        return False
    seen[IGNORE] = 0
    frequent = np.argsort(-seen, kind='stable')[: min(_LEGEND, np.count_nonzero(seen))]
    classes = sorted(frequent.tolist())
    rows = list(itertools.zip_longest(*columns))
    below = list(itertools.zip_longest(*files, fillvalue=''))
    per_line = 3 * len(surveys)
    heading = 'Images and labels; what is ignored is black'
    shown = [names[i] for i in classes]
    room = figures.legend_inches(shown, per_line)
    figure = figures.sheet(rows, titles, heading, room, names=below)
    figures.class_legend(figure, shown, [palette[i] for i in classes], per_line)
    figures.save_figure(figure, out)
    return True


def _draw(pairs: Pairs, place: int) -> tuple[figures.Image, figures.Image, NDArray[np.int64]]:
    """An image, the same with its labels, and pixels per class `[256]`."""
    assert pairs.rule is not None
    image: figures.Image = read_pixels(pairs.images[place])
    labels = pairs.rule.convert(read_values(pairs.labels[place]))
    counts = np.bincount(labels.ravel(), minlength=256)
    step = -(-max(labels.shape) // _DRAWN)
    image, labels = image[::step, ::step], labels[::step, ::step]
    colors = figures.color_labels(labels, pairs.palette)
    return image, figures.blend(image, colors), counts
