"""What a survey of COCO data found: tables on the terminal and a sheet of images with objects."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from moca import figures
from moca.data.coco import CROWD, OBJECT, CocoFile, kind_of
from moca.data.coco_masks import decode_mask, mask_fault
from moca.data.coco_survey import CocoSurvey
from moca.data.report import BAR, CLASSES, named, print_notes, size_range
from moca.images.files import evenly_spread
from moca.images.image_io import read_pixels
from moca.images.shown_names import shown_names

_SIZES = ('small', 'medium', 'large')
_NAMED = 12  # classes without an object that are named


def show(surveys: Sequence[CocoSurvey], console: Console) -> None:
    """Print sizes, objects, classes and faults of every data set."""
    console.print(_summary(surveys))
    listed = [survey for survey in surveys if survey.objects]
    if listed:
        console.print(_histogram(listed))
    for survey in surveys:
        print_notes(survey.name, _notes(survey), survey.faults, console)


def _summary(surveys: Sequence[CocoSurvey]) -> Table:
    table = Table('data', 'images', 'sizes', 'objects', 'crowds', 'RLE', *_SIZES, 'faults')
    for survey in surveys:
        objects = survey.kinds[OBJECT]
        table.add_row(
            survey.name,
            f'{len(survey.file.images):,}' if survey.file else '-',
            size_range(survey.sizes),
            f'{objects:,}',
            f'{survey.kinds[CROWD]:,}',
            f'{survey.runs:,}',
            *(f'{survey.areas[name] / objects:.0%}' if objects else '-' for name in _SIZES),
            f'[red]{len(survey.faults)}' if survey.faults else '0',
        )
    table.caption = 'small, medium, large: objects below 32 x 32, below 96 x 96 pixels, and others'
    return table


def _histogram(surveys: Sequence[CocoSurvey]) -> Table:
    """How many objects of each class there are, and in how many images."""
    table = Table('', 'class')
    for survey in surveys:
        table.add_column(f'{survey.name}, objects', justify='right')
        table.add_column('images', justify='right')
    table.add_column('')
    counts = surveys[0].objects
    names = surveys[0].file.classes if surveys[0].file else ()
    order = list(range(len(names)))
    if len(names) > CLASSES:
        order = sorted(sorted(order, key=lambda i: -counts[names[i]])[:CLASSES])
        table.title = f'The {CLASSES} most frequent of {len(names)} classes'
    largest = max(counts.values())
    for number in order:
        name = names[number]
        cells = [
            str(value or '-')
            for survey in surveys
            for value in (survey.objects[name], survey.images[name])
        ]
        bar = '█' * round(BAR * counts[name] / largest)
        table.add_row(str(number), escape(name), *cells, bar)
    return table


def _notes(survey: CocoSurvey) -> list[str]:
    """What is no fault, but what its owner should know."""
    notes = [f'{len(where):,} {what}: {named(where)}' for what, where in survey.odd.items()]
    notes += survey.notes
    if survey.file and not survey.file.annotations:
        notes.append('no annotations: a test set to predict, not to score')
    classes = survey.file.classes if survey.file else ()
    absent = [name for name in classes if not survey.objects[name]]
    if absent and survey.objects:
        shown = ', '.join(absent[:_NAMED]) + (' ...' if len(absent) > _NAMED else '')
        notes.append(f'{len(absent)} of {len(classes)} classes have no object: {shown}')
    return notes


def sheet(surveys: Sequence[CocoSurvey], out: Path, count: int) -> bool:
    """Draw images of each data set with their objects: boxes, masks and names.

    Args:
        surveys: what was found.
        out: file to write.
        count: images of each data set, evenly spread over those with objects and no fault.

    Returns:
        Whether there was anything to draw.
    """
    columns: list[list[tuple[figures.Image, dict[str, Any]]]] = []
    files: list[list[str]] = []
    drawn: list[CocoSurvey] = []
    for survey in surveys:
        if survey.file is None or not survey.right:
            continue
        chosen = [survey.right[place] for place in evenly_spread(len(survey.right), count)]
        columns.append([_draw(survey.file, place) for place in chosen])
        files.append(shown_names([survey.file.images[place]['file_name'] for place in chosen]))
        drawn.append(survey)
    if not columns:
        return False
    nothing: dict[str, Any] = dict(labels=[], boxes=[], masks=[])
    blank = (np.full((1, 100, 3), 255, np.uint8), nothing)
    rows = list(itertools.zip_longest(*columns, fillvalue=blank))
    shown = [[image for image, _ in row] for row in rows]
    titles = [survey.name for survey in drawn]
    names = list(itertools.zip_longest(*files, fillvalue=''))
    figure = figures.sheet(shown, titles, 'Images and objects', names=names)
    figure.set_size_inches(2 * figure.get_size_inches())  # names of objects are small
    for line, row in enumerate(rows):
        for column, (_, instances) in enumerate(row):
            file = drawn[column].file
            assert file is not None
            colors = figures.distinct_colors(len(file.classes))
            axis = figure.axes[line * len(drawn) + column]
            figures.draw_instances(axis, instances, file.classes, colors)
    figures.save_figure(figure, out)
    return True


def _draw(file: CocoFile, place: int) -> tuple[figures.Image, dict[str, Any]]:
    """An image and its objects, without crowds, as `figures.draw_instances` takes them."""
    image = file.images[place]
    pixels: figures.Image = read_pixels(file.path_of(image))
    height, width = pixels.shape[:2]
    known = file.known
    found = [
        annotation
        for annotation in file.annotations
        if annotation['image_id'] == image['id'] and kind_of(annotation, image, known) == OBJECT
    ]
    boxes = np.array([annotation['bbox'] for annotation in found], float)
    boxes[:, 2:] += boxes[:, :2]
    labels = [file.classes.index(file.categories[row['category_id']]) for row in found]
    masks = [
        decode_mask(row['segmentation'], height, width)
        if mask_fault(file, row, image) is None
        else None
        for row in found
    ]
    return pixels, dict(boxes=boxes, labels=labels, masks=masks)
