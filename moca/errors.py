"""Errors that a user can mend; the tools print their message alone and exit with status 2."""


class UserError(Exception):
    """Something that the user gave is wrong.

    The message names the file or field, says what is wrong with it, and what to do.
    """


class CheckpointMismatch(UserError):
    """A checkpoint does not fit the backbone that it is to be loaded into."""
