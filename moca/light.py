"""How commands that only read and print end: as `main_guard` has it, without its imports.

Torch and mmengine's runner take seconds to import, which a table of results needs nothing of.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import ParamSpec

from moca.errors import INTERRUPTED, UserError, error_line

P = ParamSpec('P')


def light_guard(fn: Callable[P, object]) -> Callable[P, int]:
    """Decorate what a tool does: it ends as under :func:`moca.engine.cli.main_guard`.

    That is imported once something else than a `UserError` or Ctrl-C comes. For commands of one
    process that train and predict nothing.
    """

    @functools.wraps(fn)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> int:
        try:
            fn(*args, **kwargs)
        except UserError as error:
            print(error_line(str(error)), file=sys.stderr)
            return 2
        except KeyboardInterrupt:  # at once, and not after imports of seconds
            print(INTERRUPTED, file=sys.stderr)
            return 130
        except BaseException as error:
            from moca.engine.cli import main_guard

            return main_guard(_raise)(error)
        return 0

    return guarded


def _raise(error: BaseException) -> None:
    raise error
