"""Public checkpoints that calibrate a set-up: which files of a folder are measured by what.

A file is recognized by the name that it was published under, else by what the reader finds in it;
either way it must hold the ViT that the row is of. (No digest of a published file is known here.)
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path

from moca.checkpoints.info import CheckpointInfo
from moca.checkpoints.loading import inspect_checkpoint
from moca.checkpoints.run_names import checkpoint_label
from moca.errors import UserError
from moca.results.fingerprints import Fingerprint
from moca.results.jobs import Job
from moca.results.plan import CONFIGS, Plan, make_jobs, task_config, task_path
from moca.results.tested import Tested

SUFFIXES = ('.pth', '.pt', '.tar', '.safetensors', '.bin')
"""What files of weights are called."""


@dataclass(frozen=True)
class Match:
    """A row of the table, and the files that it is measured on.

    Attributes:
        fingerprint: The row.
        checkpoint: The file of its ViT.
        head: The file of the head that is tested on it, if there is one of its own.
    """

    fingerprint: Fingerprint
    checkpoint: Path
    head: Path | None = None

    @property
    def about(self) -> str:
        """What it is, for notes."""
        return f'Row {self.fingerprint.row}, {self.fingerprint.title}'


def chosen_rows(table: Sequence[Fingerprint], names: Sequence[str] | None) -> list[Fingerprint]:
    """The rows of a table that are asked for, all if none is named.

    Raises:
        UserError: There is no such row.
    """
    known = [row.row for row in table]
    if unknown := set(names or ()) - set(known):
        raise UserError(
            f'--rows {min(unknown)}: there is no such row. There are {", ".join(known)}.'
        )
    return [row for row in table if not names or row.row in names]


def find_matches(folder: Path, table: Sequence[Fingerprint]) -> tuple[list[Match], list[str]]:
    """Match the files of a folder, and of those below it, with the rows of a table.

    Returns:
        The rows whose files are there, in their order, and a note on every other row or file.

    Raises:
        UserError: There is no such folder, or no weights in it.
    """
    if not folder.is_dir():
        raise UserError(f'{folder}: no such folder. Name the one that public checkpoints lie in.')
    files = sorted(p for p in folder.rglob('*') if p.suffix in SUFFIXES and p.is_file())
    if not files:
        raise UserError(
            f'{folder}: no files of weights ({", ".join(SUFFIXES)}) in it. Put public ones in.'
        )
    look = functools.cache(_look)
    matches, notes = [], []
    for row in table:
        named = [file for file in files if _named(file, row.files) and _holds(file, row, look)]
        found = named or [file for file in files if _of_family(file, row, look)]
        heads = [file for file in files if _named(file, row.head)]
        about = f'Row {row.row}, {row.title}'
        if not found:
            notes.append(f'{about}: no file of it ({", ".join(row.files)}).')
            continue
        if row.head and not heads:
            notes.append(f'{about}: skipped, its head is not there ({", ".join(row.head)}).')
            continue
        if len(found) > 1:
            left = ', '.join(map(str, found[1:]))
            notes.append(f'{about}: measured on {found[0]}; left out: {left}.')
        if not named:
            notes.append(f'{about}: {found[0]} is taken for it, by its content ({look(found[0])}).')
        matches.append(Match(row, found[0], heads[0] if row.head else None))
    used = {file for match in matches for file in (match.checkpoint, match.head)}
    notes += [f'{file}: {_unused(file, table, look)}' for file in files if file not in used]
    return matches, notes


Look = Callable[[Path], CheckpointInfo | UserError]


def _look(path: Path) -> CheckpointInfo | UserError:
    """What a file holds, or why it cannot be read."""
    try:
        return inspect_checkpoint(path)
    except UserError as error:
        return error


def _named(file: Path, names: Sequence[str]) -> bool:
    return any(fnmatch(file.name.lower(), name) for name in names)


def _holds(file: Path, row: Fingerprint, look: Look) -> bool:
    """Whether the ViT of a row is in a file."""
    info = look(file)
    return isinstance(info, CheckpointInfo) and row.arch in info.fitting


def _of_family(file: Path, row: Fingerprint, look: Look) -> bool:
    if not row.families or not _holds(file, row, look):
        return False
    info = look(file)
    return isinstance(info, CheckpointInfo) and info.family in row.families


def _unused(file: Path, table: Sequence[Fingerprint], look: Look) -> str:
    named = next((row for row in table if _named(file, row.files)), None)
    if named is None:
        return 'not used, no row is of it.'
    info = look(file)
    if isinstance(info, UserError):
        return f'not used, it cannot be read: {info}'
    if named.arch in info.fitting:
        return f'not used, row {named.row} is measured on another file or lacks its head.'
    return f'not used, it is called as the file of row {named.row} but holds no {named.arch}.'


def split_runnable(
    matches: Sequence[Match], data_roots: Mapping[str, str]
) -> tuple[list[Match], list[str]]:
    """The rows that can run, and a note on each that cannot: no protocol, or no data given.

    Args:
        matches: Of :func:`find_matches`.
        data_roots: Folder by data set.

    Raises:
        UserError: A folder is not there.
    """
    for name, root in data_roots.items():
        if not Path(root).is_dir():
            raise UserError(f'--data-root {name}={root}: no such folder.')
    ready, notes = [], []
    for match in matches:
        row = match.fingerprint
        if task_path(row.task) is None:
            notes.append(f'{match.about}: skipped, there is no protocol {row.task}.')
        elif row.data not in data_roots:
            notes.append(f'{match.about}: skipped, give --data-root {row.data}=DIR.')
        else:
            ready.append(match)
    return ready, notes


def job_of(match: Match, plan: Plan) -> Job | Tested:
    """The run that measures a row: an ordinary one, where the same run of others counts as well.

    Args:
        match: The row and its files.
        plan: What all rows have alike: data roots by data set, and arguments that only rows with
            training get (``options``).

    Raises:
        UserError: As `make_jobs`.
    """
    row = match.fingerprint
    root = plan.data_roots[row.data]
    if row.tests:
        return _test_of(match, root)
    trains = 'train_cfg' in task_config(row.task, None, plan.configs)
    (job,) = make_jobs(
        replace(
            plan,
            checkpoints=[str(match.checkpoint)],
            tasks=[row.task],
            archs=[row.arch],
            data_roots={row.task: root},
            options=plan.options if trains else (),
        )
    )
    return job


def _test_of(match: Match, root: str) -> Tested:
    row = match.fingerprint
    config = task_config(row.task, row.arch, CONFIGS)
    tested = match.head or match.checkpoint
    folder = Path('work_dirs', config.protocol.name, f'{checkpoint_label(tested)}_tested')
    arguments = [str(config.filename), str(tested), '--arch', row.arch, '--data-root', root]
    if match.head is not None:
        arguments += ['--backbone', str(match.checkpoint)]
    arguments += ['--work-dir', str(folder)]
    title = f'{row.task} of {tested.name}'
    backbone = None if match.head is None else str(match.checkpoint)
    return Tested(title, folder, tuple(arguments), str(tested), root, backbone)
