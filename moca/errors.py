"""Errors that a user can mend; the tools print their message alone and exit with status 2."""


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
