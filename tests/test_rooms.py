"""Imports run one way: a room of `moca` imports only what stands below it in `ROOMS`."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# From the top down, as the README lists them.
ROOMS = (
    'results',
    'visualize',
    'predict',
    'pretrain',
    'evaluation',
    'transfer',
    'export',
    'data',
    'depth',
    'segmentation',
    'detection',
    'eomt',
    'checkpoints',
    'backbone',
    'figures',
    'images',
    'light',
    'engine',
    'records',
    'ops',
    'command_line',
    'errors',
)

# Within `pretrain`: methods know nothing of each other, and training knows no method. What every
# method has, `base.py`, stands among the parts that they share.
PRETRAIN = ('moca', 'moma', 'macrl', 'can', 'mae', 'training', 'monitors', 'data', 'parts')


def modules(folder: Path = ROOT / 'moca') -> Iterator[tuple[str, Path]]:
    """Yield the dotted name and file of every module of a package."""
    for path in sorted(folder.rglob('*.py')):
        parts = path.relative_to(folder.parent).with_suffix('').parts
        yield '.'.join(parts[:-1] if parts[-1] == '__init__' else parts), path


def imports(source: str, known: set[str]) -> set[str]:
    """What a source imports, late imports included: modules of `known`, or whole packages."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            for alias in node.names:
                full = f'{node.module}.{alias.name}'
                found.add(full if full in known else node.module)
    return found


FILES = dict(modules())
GRAPH = {name: imports(path.read_text(), set(FILES)) for name, path in FILES.items()}


def room(module: str, depth: int = 1) -> str:
    parts = module.split('.')
    name = parts[depth] if len(parts) > depth else ''
    return 'parts' if name == 'base' else name


def upward(graph: dict[str, set[str]], order: tuple[str, ...], depth: int = 1) -> list[str]:
    """Every import that does not run down `order`, as text."""
    faults = []
    for name, used in graph.items():
        for other in sorted(used):
            here, there = room(name, depth), room(other, depth)
            if here and there and here != there and order.index(there) <= order.index(here):
                faults.append(f'{name} imports {other}')
    return faults


def ours(prefix: str) -> dict[str, set[str]]:
    inside = {name for name in GRAPH if name.startswith(prefix + '.')}
    return {name: GRAPH[name] & inside for name in inside}


def test_every_room_has_its_place() -> None:
    assert {room(name) for name in FILES} - {''} == set(ROOMS)
    assert {room(name, 2) for name in ours('moca.pretrain')} == set(PRETRAIN)


def test_no_import_runs_up() -> None:
    assert not upward(ours('moca'), ROOMS)


def test_no_import_runs_up_within_pretrain() -> None:
    assert not upward(ours('moca.pretrain'), PRETRAIN, depth=2)


def test_no_circle_of_modules() -> None:
    packages = {name for name, path in FILES.items() if path.name == '__init__.py'}
    graph = {name: (used & set(FILES)) - packages for name, used in GRAPH.items()}
    list(TopologicalSorter(graph).static_order())


def test_the_package_knows_nothing_of_tools_and_tests() -> None:
    outside = {
        name: used
        for name, used in GRAPH.items()
        if any(other.split('.')[0] in ('tools', 'tests') for other in used)
    }
    assert not outside


def test_faults_are_seen() -> None:
    source = 'def late():\n    from moca.results import tables\nimport moca.engine.amp\n'
    used = imports(source, {'moca.results.tables'})
    assert used == {'moca.results.tables', 'moca.engine.amp'}
    assert upward({'moca.backbone.vit': used}, ROOMS) == [
        'moca.backbone.vit imports moca.results.tables'
    ]
    with pytest.raises(CycleError):
        list(TopologicalSorter({'a': {'b'}, 'b': {'a'}}).static_order())
