"""Damaged images, annotation files, configs and command lines: read alike, or refused by name."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
from mmengine.config import Config

from moca.data import survey
from moca.engine.cli import read_config
from moca.errors import UserError
from moca.images.image_io import read_pixels
from moca.images.png import png_fault
from tests import odd_files
from tests.campaign import commands
from tests.campaign.annotations import coco, label_map, panoptic
from tests.campaign.campaign import Area, Outcome
from tests.campaign.damage import Draw, edit, garble, refused
from tests.configs.helpers import REPOSITORY

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


def _image(draw: Draw, folder: Path) -> Outcome:
    form = draw.choice(odd_files.FORMATS)
    mode = draw.choice(odd_files.MODES)
    whole = odd_files.encode(odd_files.pixels(mode), form)
    if whole is None:
        return _image(draw, folder)
    data = bytearray(whole)
    kind = f'image, {garble(data, draw)}'
    path = folder / 'image.img'
    path.write_bytes(whole)
    try:
        truth = read_pixels(path)
    except UserError as error:  # 16 bits whose range nothing tells
        return refused('image, whole', error, path)
    path.write_bytes(data)
    try:
        pixels = read_pixels(path)
    except UserError as error:
        return refused(kind, error, path)
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or pixels.shape[2] != 3:
        return Outcome(kind, 'silent', f'{form} {mode}: {pixels.shape} of {pixels.dtype}')
    if pixels.shape == truth.shape and np.array_equal(pixels, truth):
        return Outcome(kind, 'equal')
    if kind == 'image, truncated':
        return Outcome(kind, 'silent', f'{form} of {mode} was cut and read')
    if png_fault(bytes(data)):
        return Outcome(kind, 'silent', f'{form} of {mode}: a checksum is wrong')
    return Outcome(kind, 'beyond telling', f'{form} of {mode}')


def _config(draw: Draw, folder: Path) -> Outcome:
    source = REPOSITORY / 'configs' / draw.choice(CONFIGS)
    content = Config.fromfile(source).to_dict()
    kind = f'config, {edit(content, draw)}'
    path = folder / 'own.py'
    try:
        Config(content).dump(str(path))
    except Exception:  # a value that no config file can have
        return _config(draw, folder)
    try:
        read_config(path)
    except UserError as error:
        named = '\n' not in str(error).strip()
        return Outcome(kind, 'refused' if named else 'unnamed', str(error))
    return Outcome(kind, 'accepted')


def _command(draw: Draw, folder: Path) -> Outcome:
    kind = commands.words if draw.random() < 0.25 else commands.values
    return kind(draw, folder, CONFIGS)


KINDS = (_image, _image, label_map, panoptic, coco, _config, _command)


class Inputs(Area):
    """What users' folders and hands hold."""

    name = 'inputs'
    title = 'Inputs'
    proofs = (('annotations, .*', 'traceback'),)

    def count(self, quick: bool) -> int:
        """Four of each kind with ``quick``."""
        return 4 * len(KINDS) if quick else 10_000

    def run(self, number: int, folder: Path) -> Outcome:
        """Draw an input by seed and number."""
        return KINDS[number % len(KINDS)](random.Random(f'{self.seed} {number}'), folder)

    def inject(self) -> None:
        """Annotation files are read without a look at them."""
        survey.check_data = lambda *args, **kwargs: None
