"""About two hundred odd inputs, generated: images, label maps and annotation files.

Each is a change to one file of a small data set that is otherwise whole. Nothing is random but the
pixels, whose seed is fixed, so that a name stands for the same bytes every time.
"""

from __future__ import annotations

import copy
import io
import itertools
import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

SIZE = (96, 64)  # width, height; of every image of the data sets
FORMATS = ('JPEG', 'PNG', 'WEBP', 'BMP', 'TIFF', 'GIF')
MODES = ('RGB', 'L', 'RGBA', 'P', '1', 'CMYK', 'I;16', 'LA', 'F', 'I')

DAMAGES: dict[str, Callable[[bytes], bytes]] = {
    'whole': lambda data: data,
    'empty': lambda data: b'',
    'half': lambda data: data[: len(data) // 2],
    'without its end': lambda data: data[:-20],
    'zeros at the end': lambda data: data[: len(data) // 2] + bytes(len(data) - len(data) // 2),
    'a changed byte': lambda data: data[: len(data) // 2] + b'\x5a' + data[len(data) // 2 + 1 :],
    'more behind it': lambda data: data + b'and more',
}


def encode(image: Image.Image, kind: str, **options: Any) -> bytes | None:
    """The bytes of a file, or None if the format does not know the kind of pixels."""
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **options)
    except (OSError, ValueError):
        return None
    return buffer.getvalue()


def pixels(mode: str = 'RGB', size: tuple[int, int] = SIZE) -> Image.Image:
    """Noise of a kind of pixels."""
    random = np.random.default_rng(0)
    if mode in ('I;16', 'I'):
        return Image.fromarray(random.integers(0, 60000, size[::-1]).astype(np.uint16)).convert(
            mode
        )
    noise = Image.fromarray(random.integers(0, 255, (*size[::-1], 3), dtype=np.uint8))
    return noise.convert(mode) if mode != 'LA' else noise.convert('L').convert('LA')


def images() -> Iterator[tuple[str, bytes]]:
    """Formats by damages, formats by kinds of pixels, turned and other sizes, and no images."""
    for kind, (damage, change) in itertools.product(FORMATS, DAMAGES.items()):
        data = encode(pixels(), kind)
        if data is not None:
            yield f'{kind} {damage}', change(data)
    for kind, mode in itertools.product(('JPEG', 'PNG', 'TIFF'), MODES[1:]):
        data = encode(pixels(mode), kind)
        if data is not None:
            yield f'{kind} of {mode}', data
    note = Image.Exif()
    for turn in (3, 6, 8):
        note[0x0112] = turn
        yield f'turned by {turn}', encode(pixels(), 'JPEG', exif=note) or b''
        yield (
            f'annotated turned by {turn}',
            (encode(pixels(size=SIZE[::-1]), 'JPEG', exif=note) or b''),
        )
    yield 'one pixel', encode(pixels(size=(1, 1)), 'PNG') or b''
    yield 'text', b'<html>404</html>'


def label_maps() -> Iterator[tuple[str, bytes]]:
    """Label maps of 96 x 64: kinds of pixels, values, sizes and damages."""
    classes = np.zeros(SIZE[::-1], np.uint8)
    classes[20:40] = 5
    for mode in ('L', 'P', '1', 'RGB', 'RGBA', 'LA', 'I;16', 'I', 'F'):
        for kind in ('PNG', 'TIFF'):
            values = classes.astype(np.uint16) if mode == 'I;16' else classes
            data = encode(Image.fromarray(values).convert(mode), kind)
            if data is not None:
                yield f'{kind} of {mode}', data
    for damage, change in DAMAGES.items():
        yield f'{damage}', change(encode(Image.fromarray(classes), 'PNG') or b'')
    for name, values in {
        'value 200': np.where(classes == 5, 200, 0),
        'nothing but 255': np.full_like(classes, 255),
        'turned': classes.T.copy(),
        'half the size': classes[::2, ::2].copy(),
        'as JPEG': classes,
        'values of 16 bits': classes.astype(np.uint16) * 300,
    }.items():
        kept = values if values.dtype == np.uint16 else values.astype(np.uint8)
        kind = 'JPEG' if 'JPEG' in name else 'PNG'
        yield name, encode(Image.fromarray(kept), kind) or b''


# Values that a field of JSON may have instead of the right one.
_VALUES = (
    None,
    True,
    -1,
    0,
    1.5,
    10**30,
    float('nan'),
    float('inf'),
    '',
    '7',
    [],
    [[1]],
    {},
    'é\n',
)
_FIELDS = (
    *(('images', field) for field in ('id', 'file_name', 'width')),
    *(('annotations', field) for field in ('id', 'image_id', 'category_id', 'bbox', 'area')),
    *(('annotations', field) for field in ('iscrowd', 'segmentation')),
    *(('categories', field) for field in ('id', 'name')),
)


def annotation_files(text: str) -> Iterator[tuple[str, bytes]]:
    """A file's JSON with one field of another value, absent fields, and cut or damaged text."""
    content = json.loads(text)
    for (table, field), value in itertools.product(_FIELDS, _VALUES):
        changed = copy.deepcopy(content)
        changed[table][0][field] = value
        yield f'{table}.{field}={value!a}', json.dumps(changed).encode()
    for table, field in _FIELDS:
        changed = copy.deepcopy(content)
        del changed[table][0][field]
        yield f'{table} without {field}', json.dumps(changed).encode()
    for table, value in itertools.product(('images', 'annotations', 'categories'), _VALUES):
        yield f'{table}={value!a}', json.dumps({**content, table: value}).encode()
    for value in _VALUES:
        yield f'{value!a} alone', json.dumps(value).encode()
    for polygon in ([1, 1, 9], [1, 1, 9, 9], [1, 1, 9, 1, 9], ['1'] * 6, [1e9] * 6, [[1, 1]] * 3):
        changed = copy.deepcopy(content)
        changed['annotations'][0]['segmentation'] = [polygon]
        yield f'polygon {polygon}', json.dumps(changed).encode()
    for encoding in ('utf-8-sig', 'utf-16', 'latin-1'):
        yield f'in {encoding}', text.replace('person', 'persón').encode(encoding)
    for place in range(0, len(text), len(text) // 12):
        yield f'cut at {place}', text.encode()[:place]
