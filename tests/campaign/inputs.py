"""Damaged images, annotation files, configs and command lines: read alike, or refused by name."""

from __future__ import annotations

import contextlib
import copy
import io
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from mmengine.config import Config

from moca.data.survey import check_data
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.images.image_io import read_pixels
from moca.images.png import png_fault
from tests import odd_files
from tests.campaign.campaign import Area, Outcome
from tests.configs.helpers import REPOSITORY
from tests.detection import own_coco
from tests.test_odd_files import read_all
from tools import pretrain, train

Draw = random.Random

CONFIGS = (
    'pretrain/moca_cifar.py',
    'pretrain/mae_cifar.py',
    'segmentation/driving/linear-bn.py',
    'segmentation/driving/eomt.py',
    'detection/own-coco/mask-rcnn_sfp.py',
    'imagenet/knn_own-images.py',
    'imagenet/linear_own-images.py',
    'depth/own_linear.py',
    'dense/in-context_driving.py',
)

# Values that anything in JSON or in a config may have instead of the right one.
VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2, 1.5, 10**30, float('nan'), float('inf')),
    *('', '7', 'é\n', '/', 'None', [], [[1]], [None], {}, {'type': 'X'}, {'a': {'b': 1}}),
)


def _garble(data: bytearray, draw: Draw) -> str:
    """Damage bytes in one of some ways, and say in which."""
    kind = draw.choice(('truncated', 'a bit', 'zeros', 'swapped', 'inserted', 'appended'))
    place = draw.randrange(len(data))
    if kind == 'truncated':
        del data[place:]
    elif kind == 'a bit':
        data[place] ^= 1 << draw.randrange(8)
    elif kind == 'zeros':
        data[place : place + 64] = bytes(len(data[place : place + 64]))
    elif kind == 'swapped':
        other = draw.randrange(len(data))
        data[place], data[other] = data[other], data[place]
    elif kind == 'inserted':
        data[place:place] = draw.randbytes(draw.choice((1, 4, 100)))
    else:
        data += draw.randbytes(draw.choice((1, 20, 3000)))
    return kind


def _image(draw: Draw, folder: Path) -> Outcome:
    form = draw.choice(odd_files.FORMATS)
    mode = draw.choice(odd_files.MODES)
    whole = odd_files.encode(odd_files.pixels(mode), form)
    if whole is None:
        return _image(draw, folder)
    data = bytearray(whole)
    kind = f'image, {_garble(data, draw)}'
    path = folder / 'image.img'
    path.write_bytes(whole)
    try:
        truth = read_pixels(path)
    except UserError as error:  # 16 bits whose range nothing tells
        return _refused('image, whole', error, path)
    path.write_bytes(data)
    try:
        pixels = read_pixels(path)
    except UserError as error:
        return _refused(kind, error, path)
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return Outcome(kind, 'silent', f'{form} {mode}: {pixels.shape} of {pixels.dtype}')
    if pixels.shape == truth.shape and np.array_equal(pixels, truth):
        return Outcome(kind, 'equal')
    if kind == 'image, truncated':
        return Outcome(kind, 'silent', f'{form} of {mode} was cut and read')
    if png_fault(bytes(data)):
        return Outcome(kind, 'silent', f'{form} of {mode}: a checksum is wrong')
    return Outcome(kind, 'beyond telling', f'{form} of {mode}')


def _refused(kind: str, error: UserError, path: Path) -> Outcome:
    line = str(error)
    good = path.name in line and '\n' not in line
    return Outcome(kind, 'refused' if good else 'unnamed', line)


def _places(content: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The places of all values within dicts and lists."""
    if path:
        yield path
    items = content.items() if isinstance(content, dict) else enumerate(content)
    for key, value in items:
        if isinstance(value, dict | list):
            yield from _places(value, (*path, key))
        else:
            yield (*path, key)


def _edit(content: Any, draw: Draw) -> str:
    """Drop, rename, double or replace a value somewhere, and say what was done."""
    path = draw.choice(list(_places(content)))
    owner = content
    for key in path[:-1]:
        owner = owner[key]
    key, kind = path[-1], draw.choice(('dropped', 'another value', 'renamed', 'of another place'))
    if kind == 'dropped':
        del owner[key]
    elif kind == 'renamed' and isinstance(owner, dict):
        owner[f'{key}{draw.choice(("x", "_", "s"))}'] = owner.pop(key)
    elif kind == 'of another place':
        other: Any = content
        for part in draw.choice(list(_places(content))):
            if isinstance(other, dict | list):
                other = other[part] if isinstance(other, list) or part in other else other
        owner[key] = copy.deepcopy(other)
    else:
        kind = 'another value'
        owner[key] = copy.deepcopy(draw.choice(VALUES))
    return kind


def _annotations(draw: Draw, folder: Path) -> Outcome:
    root = own_coco.write(folder / 'coco')
    path = root / 'annotations/train.json'
    if draw.random() < 0.2:
        data = bytearray(path.read_bytes())
        kind = f'annotations, {_garble(data, draw)}'
        path.write_bytes(data)
    else:
        content = json.loads(path.read_text())
        kind = f'annotations, {_edit(content, draw)}'
        path.write_text(json.dumps(content))
    cfg = own_coco.config(root)
    try:
        check_data(cfg, splits=('train',))
    except UserError as error:
        named = str(root) in str(error) and '\n' not in str(error)
        return Outcome(kind, 'refused' if named else 'unnamed', str(error))
    read_all(cfg.train_dataloader.dataset, 2)  # what is accepted can be read
    return Outcome(kind, 'accepted')


def _config(draw: Draw, folder: Path) -> Outcome:
    source = REPOSITORY / 'configs' / draw.choice(CONFIGS)
    content = Config.fromfile(source).to_dict()
    kind = f'config, {_edit(content, draw)}'
    path = folder / 'own.py'
    try:
        Config(content).dump(str(path))
    except Exception:  # a value that no config file can have
        return Outcome(kind, 'equal', 'cannot be written')
    try:
        read_config(path)
    except UserError as error:
        named = '\n' not in str(error).strip()
        return Outcome(kind, 'refused' if named else 'unnamed', str(error))
    return Outcome(kind, 'accepted')


OPTIONS = (
    *('--data-root', '--checkpoint', '--arch', '--work-dir', '--seed', '--amp', '--resume'),
    *('--accumulate', '--launcher', '--cfg-options', '--branch', '--patch', '--mean', '--std'),
    *('--delta-of', '--trust', '--grid', '--subset', '--held-out', '--nothing', '--knn'),
)
WORDS = (
    *('', '0', '-1', '1e9', 'nan', 'auto', 'none', 'pytorch', 'x=1', 'model=3', 'a.b.c=[', '[1,2]'),
    *('train_cfg.max_iters=-1', 'model.backbone.arch=x', 'é', '--', '../..', '/dev/null'),
)


def _command(draw: Draw, folder: Path) -> Outcome:
    tool: Callable[..., object] = draw.choice((train.main, pretrain.main))
    config = str(REPOSITORY / 'configs' / draw.choice(CONFIGS))
    words = [config] if draw.random() < 0.9 else []
    for _ in range(draw.randint(1, 4)):
        words.append(draw.choice(OPTIONS))
        words += [draw.choice(WORDS) for _ in range(draw.randint(0, 2))]
    if '--work-dir' not in words:
        words += ['--work-dir', str(folder / 'run')]
    kind, said = 'command line', io.StringIO()
    with contextlib.redirect_stderr(said), contextlib.chdir(folder):
        try:
            code = tool(words)
        except SystemExit as error:  # of argparse
            code = error.code
    text = said.getvalue()
    if code == 2 and 'Traceback' not in text and 'error' in text:
        return Outcome(kind, 'refused', text[-300:])
    return Outcome(kind, 'silent' if code == 0 else 'unnamed', f'{words}: exit {code}: {text}')


KINDS = (_image, _image, _image, _annotations, _config, _command)


class Inputs(Area):
    """What users' folders and hands hold."""

    name = 'inputs'
    title = 'Inputs'

    def count(self, quick: bool) -> int:
        """One in a hundred of them with ``quick``."""
        return 100 if quick else 10_000

    def run(self, number: int, folder: Path) -> Outcome:
        """Draw an input by seed and number."""
        return KINDS[number % len(KINDS)](random.Random(f'{self.seed} {number}'), folder)

    def inject(self) -> None:
        """Annotation files are read without a look at them."""
        globals()['check_data'] = lambda cfg, splits: None
