"""Find misspelt arguments in a config before anything is built."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Iterator, Mapping, Set
from typing import Any

from mmengine.config import Config

from moca.engine.config_classes import CONSUMED, arguments_of, candidates, is_known, root_registries
from moca.errors import UserError


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean {matches[0]!r}?' if matches else ''


def check_arguments(
    cls: type, given: Iterable[str], field: str, filled: Iterable[str] = ()
) -> None:
    """Check that a class takes the arguments which a config field holds for it.

    Args:
        cls: the class.
        given: names of the arguments in the config.
        field: the config's.
        filled: names of arguments that the program gives itself.

    Raises:
        UserError: naming the field, the unknown argument and the nearest known one.
    """
    known = set(_arguments(cls, 'type') or ()) - set(filled)
    for argument in given:
        if argument not in known:
            raise UserError(f'{field} has no argument {argument!r}.{nearest(argument, known)}')


def check_config(cfg: Config, source: str = 'config') -> None:
    """Check every dict of a config whose class is known, and of which it is known what it takes.

    That is of this package's classes, and of mmengine's, mmseg's and mmdet's and torch's loaders as
    far as `moca.engine.config_classes.candidates` knows.

    Args:
        cfg: the whole config.
        source: the file name for the message.

    Raises:
        UserError: naming the field, the class, the unknown argument and the nearest known one;
            or a class that exists nowhere but under a similar name here.
    """
    ours, scope = _our_classes(), cfg.get('default_scope') or 'mmengine'
    for field, node in _walk(cfg.to_dict(), ''):
        _check_foreign(field, node, ours, scope, source)
        for key in ('type', 'constructor'):
            name = node.get(key)
            name = getattr(name, '__name__', name)
            if name not in ours:
                _check_spelling(name, ours, f'{source}: {field}.{key}')
                continue
            cls, registry = ours[name]
            given = node.get('paramwise_cfg') or {} if key == 'constructor' else node
            known = _arguments(cls, key)
            if known is None:
                continue
            known = known | CONSUMED.get(registry, set())
            for argument in given:
                if argument not in known | {'type', '_scope_'}:
                    raise UserError(
                        f'{source}: {field}: {name} has no argument {argument!r}.'
                        f'{nearest(argument, known)} It has: {", ".join(sorted(known))}.'
                    )


def _check_foreign(
    field: str, node: dict[str, Any], ours: Mapping[str, Any], scope: str, source: str
) -> None:
    """Raise if none of the classes of other libraries that a dict may be for takes it."""
    name = node.get('type')
    if getattr(name, '__name__', name) in ours:
        return
    given = [key for key in node if key not in ('type', '_scope_')]
    found = list(candidates(field, node, scope))
    if not found or any(known is None or known.issuperset(given) for _, known in found):
        return
    # of several classes of one name, the one that fits best was meant
    name, known = min(found, key=lambda entry: len(set(given) - (entry[1] or set())))
    known = known or frozenset()
    unknown = next(key for key in given if key not in known)
    raise UserError(
        f'{source}: {field}: {name} has no argument {unknown!r}.{nearest(unknown, known)} '
        f'It has: {", ".join(sorted(known))}.'
    )


def _check_spelling(name: Any, ours: Iterable[str], where: str) -> None:
    """Raise if a name is nobody's and nearly one of ours."""
    if not isinstance(name, str):
        return
    near = difflib.get_close_matches(name, list(ours), n=1, cutoff=0.85)
    if near and not is_known(name):
        raise UserError(f'{where}: there is no {name!r}. Did you mean {near[0]!r}?')


def _our_classes() -> dict[str, tuple[Any, str]]:
    """Return {registered name: (class, name of its root registry)} of this package's classes."""
    found = {}
    for registry_name, registry in root_registries().items():
        for name, cls in registry.module_dict.items():
            if cls.__module__.split('.')[0] == 'moca':
                found[name] = (cls, registry_name)
    return found


def _walk(node: Any, field: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (dotted path, dict) of every dict in a nested config, outer ones first."""
    if isinstance(node, dict):
        yield field or 'top level', node
        for key, value in node.items():
            yield from _walk(value, f'{field}.{key}' if field else str(key))
    elif isinstance(node, list | tuple):
        for index, value in enumerate(node):
            yield from _walk(value, f'{field}.{index}')


def _arguments(cls: Any, key: str) -> Set[str] | None:
    """Return the names that a class can be called with, or None if it takes any.

    An optimiser wrapper's constructor says what its ``paramwise_cfg`` may hold in the class
    attribute ``paramwise_keys``.
    """
    if key == 'constructor':
        keys = getattr(cls, 'paramwise_keys', None)
        return None if keys is None else frozenset(keys)
    return arguments_of(cls)
