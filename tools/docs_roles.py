"""An extension of griffe, which reads docstrings for the site: roles become code.

Docstrings here name functions as Sphinx does, ``:func:`moca.x.y```; Markdown knows no roles.
"""

from __future__ import annotations

import re
from typing import Any

import griffe

_ROLE = re.compile(r':(?:func|class|data|mod|meth|attr):`~?([^`]+)`')


def without_roles(text: str) -> str:
    """Return a docstring with the names alone, as code."""
    return _ROLE.sub(r'`\1`', text)


class CodeForRoles(griffe.Extension):
    """Changes each docstring as it is read."""

    def on_object(self, *, obj: Any, **_: Any) -> None:
        """Change the docstring of a module, class, function or attribute, if it has one."""
        if obj.docstring is not None:
            obj.docstring.value = without_roles(obj.docstring.value)
