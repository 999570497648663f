"""Values in a config that are of another kind than what takes them: a word for a number, and such.

Without this look they end in a traceback of whichever library meets them first.
"""

from __future__ import annotations

import functools
import inspect
import numbers
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Literal, Union

from mmengine.config import Config

from moca.errors import UserError

_LONGEST = 60
"""Letters of a value that a message shows."""
# A text stands for a dict (an architecture by its name), or for a number, in the first ones;
# `check_config` looks at names of classes.
_LEFT_OUT = {'arch', 'loss_scale', 'log_level', 'type', 'constructor'}


def shown(value: Any) -> str:
    """A value as a message shows it: in full if it is short, else how it begins.

    Example:
        >>> shown([1, 2]), shown(dict(enumerate('abcdefghijkl')))
        ('[1, 2]', "{0: 'a', 1: 'b', 2: 'c', 3: 'd', 4: 'e', 5: 'f', 6: 'g', 7: ...")
    """
    text = repr(value.to_dict() if isinstance(value, Config) else value)
    return text if len(text) <= _LONGEST else f'{text[:_LONGEST].rstrip()}...'


def check_option(cfg: Config, key: str, value: Any) -> None:
    """Hold an option against the value of the config that it is to replace.

    Args:
        cfg: The config, as it was.
        key: The field, with dots.
        value: The new value.

    Raises:
        UserError: They are of different kinds, or the field is the element of a list that has
            fewer.
    """
    old: Any = cfg
    *_, last = words = key.split('.')
    for place, word in enumerate(words):
        if isinstance(old, list | tuple) and word.isdecimal():
            if int(word) >= len(old):
                where = '.'.join(words[:place])
                raise UserError(
                    f'--cfg-options {key}={shown(value)}: {where} has {len(old)} elements, 0 to '
                    f'{len(old) - 1}.'
                )
            old = old[int(word)]
        elif isinstance(old, dict | Config) and word in old:
            old = old[word]
        else:
            return  # a new field
    if isinstance(old, dict) and len(words) == 1:  # a section, which `check_config` looks at
        return
    wanted = _wanted(old, value)
    if wanted and last not in _LEFT_OUT:
        raise UserError(f'--cfg-options {key}={shown(value)}: {wanted}.')


def _wanted(old: Any, new: Any) -> str | None:
    """What a value has to be replaced by, where the new one is something else."""
    if old is None or new is None:
        return None
    several = isinstance(new, list | tuple | dict)
    if isinstance(old, dict):
        names = f'{", ".join([*old][:3])}{" ..." if len(old) > 3 else ""}'
        return None if several else f'the config has fields there ({names}). Set one of them'
    if isinstance(old, list | tuple):
        if any(isinstance(each, dict) for each in old):
            some = f'the config has {len(old)} dicts there. Set a field of one of them, as by '
            return None if several else f'{some}.0.FIELD=VALUE'
        # the two sides of an image in one number, or a word of a list of words
        words = all(isinstance(each, str) for each in old)
        alone = words if isinstance(new, str) else len(old) == 2 and not words
        fit = several or alone
        kind = 'a list, such as "[1,2]"'
    elif isinstance(old, bool):
        fit, kind = isinstance(new, int | float), 'True or False'
    elif isinstance(old, int | float):
        fit, kind = not isinstance(new, str), 'a number'
    elif isinstance(old, str):
        fit = several or isinstance(new, str | bool)
        kind = 'a text, a folder of digits with a slash: 2012/' if '/' in old else 'a text'
    else:
        return None
    return None if fit else f'the config has {shown(old)} there. Give {kind}'


def check_kinds(cls: Any, node: Mapping[str, Any], where: str) -> None:
    """Hold the arguments of a class of ours against its annotations.

    Args:
        cls: The class.
        node: Its dict in a config.
        where: The field, for the message.

    Raises:
        UserError: One is of another kind. None is left to the class: it holds a place in configs.
    """
    for name, hint in _hints(cls).items():
        if node.get(name) is not None and _is_other(node[name], hint):
            raise UserError(f'{where}.{name}={shown(node[name])}: give {_words(hint)}.')


@functools.cache
def _hints(cls: Any) -> dict[str, Any]:
    """The annotated arguments of a class, as far as they are those of our own code."""
    found: dict[str, Any] = {}
    for owner in cls.__mro__ if inspect.isclass(cls) else (cls,):
        if owner.__module__.split('.')[0] != 'moca':
            break
        call = vars(owner).get('__init__') if inspect.isclass(owner) else owner
        if call is None:
            continue
        try:
            hints = typing.get_type_hints(call)
        except NameError:  # of a module that is imported for type checkers alone
            hints = {}
        parameters = inspect.signature(call).parameters.values()
        named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        found = {name: hint for name, hint in hints.items() if name in named} | found
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return found


def _is_other(value: Any, hint: Any) -> bool:
    """Whether a value is certainly not what an annotation says; of classes nothing is said."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return all(_is_other(value, each) for each in inner)
    if origin is Literal:
        return value not in inner
    if hint is None or hint is type(None):
        return value is not None
    if hint in (int, float):
        allowed = numbers.Integral if hint is int else numbers.Real  # NumPy's too
        return isinstance(value, bool) or not isinstance(value, allowed)
    if hint is bool:
        return not isinstance(value, numbers.Integral) or value not in (0, 1)
    if hint is str:
        return not isinstance(value, str)
    kind = origin or hint
    if not inspect.isclass(kind):
        return False
    if issubclass(kind, Mapping):
        return not isinstance(value, Mapping)
    if kind in (Sequence, list, tuple):
        if not isinstance(value, list | tuple | range):
            return True
        element = inner[0] if inner and (kind is not tuple or inner[1:] == (...,)) else Any
        return any(_is_other(each, element) for each in value)
    return False


def _words(hint: Any) -> str:
    """What an annotation asks for, in words."""
    origin, inner = typing.get_origin(hint), typing.get_args(hint)
    if origin in (Union, types.UnionType):
        return ' or '.join(_words(each) for each in inner)
    if origin is Literal:
        return ' or '.join(map(repr, inner))
    plain = {int: 'a whole number', float: 'a number', bool: 'True or False', str: 'a text'}
    if hint in plain:
        return plain[hint]
    kind = origin or hint
    if kind in (Sequence, list, tuple):
        element = _words(inner[0]).split(' ', 1)[-1] if inner else 'value'
        return f'a list, each a {element}'
    if inspect.isclass(kind) and issubclass(kind, Mapping):
        return 'a dict'
    return 'None' if hint is type(None) else str(getattr(hint, '__name__', hint))
