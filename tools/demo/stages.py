"""Stages of the demo: a command, what it needs, and whether an earlier run has done it already."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moca.records.whole_files import write_atomically


@dataclass(frozen=True)
class Stage:
    """One command of the demo.

    Attributes:
        name: short and unique; names its log and its note.
        title: for the display.
        command: a tool of the project and its arguments, without the interpreter.
        output: the file that exists once the command has succeeded.
        seconds: how long it took a core where the demo was written, for the first estimate.
        needs: names of the stages that must be finished before.
        folder: its work dir, if it has one, which it can resume from.
    """

    name: str
    title: str
    command: tuple[str, ...]
    output: Path
    seconds: float
    needs: tuple[str, ...] = ()
    folder: Path | None = None


class Notes:
    """What earlier runs have done, noted in ``<folder>/stages/NAME.json``.

    Args:
        folder: the demo's work dir.
        stages: all of them, each after those that it needs.
    """

    def __init__(self, folder: Path, stages: Sequence[Stage]) -> None:
        self._folder = folder / 'stages'
        self.stages = {stage.name: stage for stage in stages}

    def seconds(self, stage: Stage) -> float | None:
        """How long a stage took that ended well with the same command; None of any other."""
        seconds = self._read(stage).get('seconds')
        return float(seconds) if seconds is not None and stage.output.is_file() else None

    def finished(self, stage: Stage) -> bool:
        """Whether a stage and all that it needs ended well."""
        needs = (self.stages[name] for name in stage.needs)
        return self.seconds(stage) is not None and all(self.finished(need) for need in needs)

    def pending(self) -> list[Stage]:
        """The stages that have to run. What they left is removed, unless they can resume from it.

        A stage resumes if it was begun with the same command, after the stages that it needs.
        """
        pending = [stage for stage in self.stages.values() if not self.finished(stage)]
        again = {stage.name for stage in pending}
        for stage in pending:
            if again.intersection(stage.needs) or not self._read(stage):
                self._path(stage).unlink(missing_ok=True)
                stage.output.unlink(missing_ok=True)
                if stage.folder is not None:
                    shutil.rmtree(stage.folder, ignore_errors=True)
        return pending

    def begin(self, stage: Stage) -> tuple[str, ...]:
        """Note that a stage starts; returns its command, with ``--resume`` if it was begun."""
        begun = stage.folder is not None and bool(self._read(stage))
        self._write(stage, None)
        return (*stage.command, '--resume') if begun else stage.command

    def end(self, stage: Stage, seconds: float) -> None:
        """Note that a stage has ended well."""
        self._write(stage, round(seconds, 1))

    def _path(self, stage: Stage) -> Path:
        return self._folder / f'{stage.name}.json'

    def _read(self, stage: Stage) -> dict[str, Any]:
        """The note of a stage; empty if there is none, or one of another command."""
        try:
            note = json.loads(self._path(stage).read_text())
        except (OSError, ValueError):
            return {}
        return note if note.get('command') == list(stage.command) else {}

    def _write(self, stage: Stage, seconds: float | None) -> None:
        note = dict(command=stage.command, seconds=seconds)
        write_atomically(self._path(stage), json.dumps(note, indent=1).encode())
