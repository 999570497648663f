"""Images of separate objects for the detection set, painted over a textured ground."""

from __future__ import annotations

from numpy.random import Generator

from tools.demo import objects, textures
from tools.demo.canvas import IGNORE, Scene, Sprite
from tools.demo.palette import light
from tools.demo.street import Street

CATEGORIES = ('person', 'car', 'stop sign', 'umbrella', 'sports ball')
"""The COCO categories that occur."""

_GROUNDS = (textures.grain, textures.paving, textures.foliage, textures.bricks, textures.clouds)


def _sprite(street: Street, category: str) -> Sprite:
    rng, palette = street.rng, street.palette
    if category == 'person':
        return objects.person(rng, palette, street.length(40, 80), 0.8 * street.unit)
    if category == 'car':
        return objects.car(rng, palette, street.length(20, 34))
    if category == 'stop sign':
        return objects.sign(rng, palette, street.length(20, 36), corners=8)
    if category == 'umbrella':
        return objects.umbrella(rng, palette, street.length(26, 44))
    return objects.ball(rng, palette, street.length(14, 28))


def _crowd(street: Street) -> None:
    """A group of people too close together to be told apart: one annotation marked as crowd."""
    rng, canvas = street.rng, street.canvas
    group = canvas.new_instance('person', crowd=True)
    left, foot = int(rng.integers(0, canvas.width // 2)), street.horizon + street.length(20, 30)
    for _ in range(int(rng.integers(4, 7))):
        sprite = objects.person(rng, street.palette, street.length(26, 36), 0.8 * street.unit)
        canvas.paint(sprite, left, foot - sprite.mask.shape[0], IGNORE, group)
        left += street.length(5, 9)


def draw_things(rng: Generator, height: int, width: int, crowd: bool = False) -> Scene:
    """Draw one to five objects of `CATEGORIES` on some ground, with `crowd` a crowd behind them.

    The scene's train ids are all 255: the set is labeled by its instances only.
    """
    street = Street(rng, height, width)
    street.fill(textures.clouds if rng.random() < 0.7 else textures.bricks, 0, IGNORE)
    street.fill(_GROUNDS[rng.integers(len(_GROUNDS))], street.horizon, IGNORE)
    if crowd:
        _crowd(street)
    low = street.horizon + street.length(4, 10)
    feet = rng.integers(low, max(low + 1, street.canvas.height), rng.integers(1, 6))
    for foot in sorted(feet.tolist()):
        category = CATEGORIES[rng.integers(len(CATEGORIES))]
        street.place(_sprite(street, category), foot, IGNORE, category)
    return street.canvas.finish(light(rng, street.canvas.image()))
