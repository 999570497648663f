"""Find misspelt arguments of our classes in a config before anything is built."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Iterable, Iterator
from typing import Any

import mmengine.registry
from mmengine.config import Config
from mmengine.registry import Registry

from moca.errors import UserError

# Keys which mmengine takes out of a dict before it calls the class.
_CONSUMED = {
    'HOOKS': {'priority'},
    'OPTIM_WRAPPERS': {'constructor', 'paramwise_cfg'},
    'PARAM_SCHEDULERS': {'convert_to_iter_based', 'build_iter_from_epoch'},
    'MODELS': {'init_cfg'},
}


def nearest(word: str, known: Iterable[str]) -> str:
    """Return `` Did you mean 'x'?`` for the known word nearest to `word`, or an empty string."""
    matches = difflib.get_close_matches(word, list(known), n=1, cutoff=0.5)
    return f' Did you mean {matches[0]!r}?' if matches else ''


def check_arguments(cls: type, given: Iterable[str], field: str) -> None:
    """Check that a class takes the arguments which a config field holds for it.

    Raises:
        UserError: naming the field, the unknown argument and the nearest known one.
    """
    known = _arguments(cls, 'type') or set()
    for argument in given:
        if argument not in known:
            raise UserError(f'{field} has no argument {argument!r}.{nearest(argument, known)}')


def check_config(cfg: Config, source: str = 'config') -> None:
    """Check every dict of a config whose ``type`` is a class of this package.

    Classes of mmengine, mmseg and mmdet are theirs to check: many take ``**kwargs``.

    Args:
        cfg: the whole config.
        source: the file name for the message.

    Raises:
        UserError: naming the field, the class, the unknown argument and the nearest known one;
            or a class that exists nowhere but under a similar name here.
    """
    ours = _our_classes()
    for field, node in _walk(cfg.to_dict(), ''):
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
            known |= _CONSUMED.get(registry, set())
            for argument in given:
                if argument not in known | {'type', '_scope_'}:
                    raise UserError(
                        f'{source}: {field}: {name} has no argument {argument!r}.'
                        f'{nearest(argument, known)} It has: {", ".join(sorted(known))}.'
                    )


def _check_spelling(name: Any, ours: Iterable[str], where: str) -> None:
    """Raise if a name is nobody's and nearly one of ours."""
    if not isinstance(name, str):
        return
    near = difflib.get_close_matches(name, list(ours), n=1, cutoff=0.85)
    if near and not any(_knows(registry, name) for registry in _root_registries().values()):
        raise UserError(f'{where}: there is no {name!r}. Did you mean {near[0]!r}?')


def _knows(registry: Registry, name: str) -> bool:
    return name in registry.module_dict or any(
        _knows(child, name) for child in registry.children.values()
    )


def _root_registries() -> dict[str, Registry]:
    found = vars(mmengine.registry).items()
    return {name: value for name, value in found if isinstance(value, Registry)}


def _our_classes() -> dict[str, tuple[Any, str]]:
    """Return {registered name: (class, name of its root registry)} of this package's classes."""
    found = {}
    for registry_name, registry in _root_registries().items():
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


def _arguments(cls: Any, key: str) -> set[str] | None:
    """Return the names that a class can be called with, or None if it takes any.

    An optimiser wrapper's constructor says what its ``paramwise_cfg`` may hold in the class
    attribute ``paramwise_keys``. ``**kwargs`` is taken to be passed on to the next class.
    """
    if key == 'constructor':
        keys = getattr(cls, 'paramwise_keys', None)
        return None if keys is None else set(keys)
    # A function or a method has no **kwargs of its own to pass on.
    chain = cls.__mro__ if inspect.isclass(cls) else (cls,)
    names: set[str] = set()
    for owner in chain:
        call = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if call is None:
            continue
        parameters = inspect.signature(call).parameters.values()
        names |= {p.name for p in parameters if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)}
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            return names - {'self'}
    return None
