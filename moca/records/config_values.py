"""The values of a config, from the text or the mapping that a run left."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from typing import Any


def read_literals(text: str) -> dict[str, Any]:
    """The top-level fields of a config's text whose values are plain data.

    mmengine puts the text of a run's config into its checkpoints. ``Config.fromstring`` would run
    it, which a file from somewhere else must not be able to ask for.

    Args:
        text: What ``Config.pretty_text`` wrote: assignments of numbers, strings, lists, tuples,
            ``dict(...)`` and ``{...}``.

    Returns:
        Field to value; a field that needs more than that, or a text that is no Python, is left out.
    """
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError):
        return {}
    fields = {}
    for node in body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            try:
                fields[node.targets[0].id] = _value(node.value)
            except (TypeError, ValueError, RecursionError):
                continue
    return fields


def _value(node: ast.expr | None) -> Any:
    match node:
        case ast.Call(func=ast.Name(id='dict'), args=[], keywords=pairs) if all(
            pair.arg for pair in pairs
        ):
            return {pair.arg: _value(pair.value) for pair in pairs}
        case ast.Call(func=ast.Name(id='dict'), args=[argument], keywords=[]):
            return dict(_value(argument))
        case ast.Dict(keys=keys, values=values):
            return {_value(key): _value(value) for key, value in zip(keys, values, strict=True)}
        case ast.List():
            return [_value(item) for item in node.elts]
        case ast.Tuple():
            return tuple(_value(item) for item in node.elts)
        case ast.Name(id='inf' | 'nan' as number):  # as yapf writes them
            return float(number)
        case ast.UnaryOp(op=ast.USub(), operand=ast.Name(id='inf')):
            return -float('inf')
        case None:
            raise ValueError('** of something that is not written out')
    return ast.literal_eval(node)


def short_text(text: str) -> str:
    """A value's text for messages: of a long one its ends, since paths differ at theirs."""
    return text if len(text) <= 60 else f'{text[:20]}...{text[-37:]}'


def config_leaves(node: Any, name: str = '') -> Iterator[tuple[str, Any]]:
    """Dotted names and values; a list is as good as a tuple."""
    if isinstance(node, Mapping) and node:
        inner = list(node.items())
    elif isinstance(node, list | tuple) and any(isinstance(item, Mapping) for item in node):
        inner = list(enumerate(node))
    else:
        if name:
            yield name, list(node) if isinstance(node, tuple) else node
        return
    for key, value in inner:
        yield from config_leaves(value, f'{name}.{key}' if name else str(key))
