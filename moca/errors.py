"""Errors that a user can mend; the tools print their message alone and exit with status 2."""

import sys

INTERRUPTED = (
    'Interrupted. --resume continues a run from its last checkpoint, if it has one; '
    'the same command continues a queue of runs.'
)
"""What a tool says that Ctrl-C or SIGTERM has ended, where it has nothing better to say."""


class UserError(Exception):
    """Something that the user gave is wrong.

    The message names the file or field, says what is wrong with it, and what to do.

    Attributes:
        of_all: Whether every process of the run raises it at the same point, with one message.
    """

    of_all = False


class AgreedError(UserError):
    """Something that is wrong with a run of several processes, found by all of them together."""

    of_all = True


class CheckpointMismatch(UserError):
    """A checkpoint does not fit the backbone that it is to be loaded into."""


def one_line(message: str) -> str:
    """One line of what may be printed: names in files and configs may hold anything else."""
    line = ' '.join(line.strip() for line in message.splitlines())
    return ''.join(
        char if char.isprintable() else char.encode('unicode_escape').decode() for char in line
    )


def error_line(message: str) -> str:
    """What a tool prints of an error: one line, red in a terminal."""
    message = one_line(message)
    red, plain = ('\033[31m', '\033[0m') if sys.stderr.isatty() else ('', '')
    return f'{red}error: {message}{plain}'
