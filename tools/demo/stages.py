"""Stages of the demo: a command, what it needs, and whether an earlier run has done it already."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mmengine.config import Config


@dataclass(frozen=True)
class Stage:
    """One command of the demo.

    Attributes:
        name: short and unique; names its log and its state.
        title: for the display.
        command: a tool of the project and its arguments, without the interpreter.
        output: the file that exists once the command has succeeded.
        seconds: how long it took a core where the demo was written, for the first estimate.
        needs: names of the stages that must be finished before.
        config: the config that it runs, if any: a changed config makes the stage run again.
        folder: its work dir, if it has one, cleared when the stage starts anew.
        resumable: whether the tool takes up its own checkpoints with ``--resume``.
    """

    name: str
    title: str
    command: tuple[str, ...]
    output: Path
    seconds: float
    needs: tuple[str, ...] = ()
    config: Path | None = None
    folder: Path | None = None
    resumable: bool = False


class States:
    """What is known of the stages, kept in ``<folder>/stages/``, so that a rerun can skip them.

    A stage is finished if it ended well with the same command and config, on the same data, after
    stages of which the same holds.

    Args:
        folder: the demo's work dir.
        stages: all of them, each after those that it needs.
        data: whatever the data depend on.
    """

    def __init__(self, folder: Path, stages: Iterable[Stage], data: dict[str, Any]) -> None:
        self._folder = folder / 'stages'
        self.stages = {stage.name: stage for stage in stages}
        self._fingerprints: dict[str, str] = {}
        for stage in self.stages.values():
            content = [stage.command, _config(stage.config), data]
            content += [self._fingerprints[name] for name in stage.needs]
            text = json.dumps(content, sort_keys=True, default=str)
            self._fingerprints[stage.name] = hashlib.sha256(text.encode()).hexdigest()

    def _read(self, stage: Stage) -> dict[str, Any]:
        try:
            content = json.loads((self._folder / f'{stage.name}.json').read_text())
        except (OSError, ValueError):
            return {}
        same = isinstance(content, dict) and content.get('fingerprint') == self._of(stage)
        return content if same else {}

    def _of(self, stage: Stage) -> str:
        return self._fingerprints[stage.name]

    def finished(self, stage: Stage) -> bool:
        """Whether an earlier run of the very same stage ended well and its output is there."""
        return self._read(stage).get('status') == 'finished' and stage.output.is_file()

    def seconds(self, stage: Stage) -> float:
        """How long a finished stage took."""
        return float(self._read(stage).get('seconds', 0.0))

    def begin(self, stage: Stage) -> tuple[str, ...]:
        """Note that a stage starts; returns its command, with ``--resume`` where it goes on.

        An unfinished run of another recipe is cleared away first.
        """
        going_on = stage.resumable and self._read(stage).get('status') == 'running'
        if not going_on:
            stage.output.unlink(missing_ok=True)
            if stage.folder is not None:
                shutil.rmtree(stage.folder, ignore_errors=True)
        self._write(stage, status='running')
        return (*stage.command, '--resume') if going_on else stage.command

    def end(self, stage: Stage, seconds: float) -> None:
        """Note that a stage has ended well."""
        self._write(stage, status='finished', seconds=round(seconds, 1))

    def _write(self, stage: Stage, **content: Any) -> None:
        self._folder.mkdir(parents=True, exist_ok=True)
        path = self._folder / f'{stage.name}.json'
        partial = path.with_suffix('.partial')
        partial.write_text(json.dumps(dict(fingerprint=self._of(stage), **content), indent=1))
        os.replace(partial, path)


def _config(path: Path | None) -> Any:
    """A config with its bases resolved, so that a change in any of them is seen."""
    return None if path is None else Config.fromfile(str(path)).to_dict()
