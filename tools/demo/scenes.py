"""Street-like scenes of random layout, color, light and scale, drawn with their labels.

What tells the classes apart is texture (`tools.demo.textures`) and shape (`tools.demo.objects`).
Colors are random per image and region, and the layouts vary so much (five kinds of scene, the
horizon anywhere from the upper quarter to the lower third) that neither color nor place settles
a class.
"""

from __future__ import annotations

from collections.abc import Callable

from numpy.random import Generator

from tools.demo import objects, textures
from tools.demo.canvas import Scene
from tools.demo.palette import light
from tools.demo.street import TRAIN_IDS, Street


def _avenue(street: Street) -> None:
    """A road between pavements and houses."""
    street.houses(0.85)
    street.pavement(perspective=0.55)
    street.road(street.rng.uniform(0.3, 0.5))
    street.trees(int(street.rng.integers(0, 3)))
    street.bystanders(persons=2, cars=3, signs=1, bins=1)


def _park(street: Street) -> None:
    """A paved walk before a hedge and trees."""
    street.houses(0.25)
    street.pavement(perspective=0.4)
    street.hedge(street.length(20, 60))
    street.trees(int(street.rng.integers(2, 6)))
    street.bystanders(persons=3, signs=1, bins=1)


def _square(street: Street) -> None:
    """A paved square with people and signs."""
    street.houses(0.7)
    street.fill(textures.paving, street.horizon, TRAIN_IDS['sidewalk'])
    if street.rng.random() < 0.5:
        street.fence()
    street.bystanders(persons=4, cars=1, signs=2, bins=1)


def _suburb(street: Street) -> None:
    """Asphalt before a fence, trees and single houses."""
    street.houses(0.4)
    street.trees(int(street.rng.integers(1, 4)))
    street.fill(textures.grain, street.horizon, TRAIN_IDS['road'])
    street.fence()
    street.bystanders(persons=1, cars=3, signs=1, bins=1)


def _front(street: Street) -> None:
    """A house seen from across the street: bricks nearly everywhere, hardly any sky."""
    canvas, rng = street.canvas, street.rng
    street.horizon = round(canvas.height * rng.uniform(0.6, 0.85))
    left = 0 if rng.random() < 0.4 else round(rng.uniform(-0.5, 0.5) * canvas.width)
    front = objects.house(rng, street.palette, canvas.height, canvas.width, street.unit)
    canvas.paint(front, left, street.horizon - canvas.height, TRAIN_IDS['building'])
    if rng.random() < 0.5:
        street.fill(textures.paving, street.horizon, TRAIN_IDS['sidewalk'])
    else:
        street.fill(textures.grain, street.horizon, TRAIN_IDS['road'])
    street.trees(int(rng.integers(0, 2)))
    street.bystanders(persons=2, cars=1, signs=1, bins=1)


KINDS: dict[str, Callable[[Street], None]] = dict(
    avenue=_avenue, front=_front, park=_park, square=_square, suburb=_suburb
)
"""The kinds of scene, by name: also the class folders of the pre-training set."""


def draw_scene(rng: Generator, height: int, width: int, kind: str) -> Scene:
    """Draw a scene of `height` x `width` pixels; `kind` is one of `KINDS`.

    The same state of the generator gives the same scene.
    """
    street = Street(rng, height, width)
    street.sky()
    KINDS[kind](street)
    return street.canvas.finish(light(rng, street.canvas.image()))
