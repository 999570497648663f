"""One run of `tools/test.py` in a queue: a published classifier, tested as it is."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from moca.records.run_json import TESTED
from moca.results.queue import Run
from moca.transfer.run_record import file_digest


@dataclass(frozen=True)
class Tested(Run):
    """One run of `tools/test.py`.

    Attributes:
        checkpoint: The file that is tested.
        data_root: Folder of the images.
        backbone: The file of the ViT that a head stands on, if it has one.
    """

    checkpoint: str
    data_root: str
    backbone: str | None = None

    @property
    def record(self) -> dict[str, Any]:
        """What was measured of this file on these data; empty if nothing."""
        try:
            record = dict(json.loads((self.folder / TESTED).read_text()))
        except (OSError, ValueError):
            return {}
        same = (
            record.get('variant') is None
            and record.get('sha256') == file_digest(self.checkpoint)
            and record.get('data_root') == str(Path(self.data_root).resolve())
            and record.get('backbone_sha256') == _digest(self.backbone)
        )
        return record if same else {}

    @property
    def finished(self) -> bool:
        """Whether its result is there."""
        return bool(self.record)


def _digest(path: str | None) -> str | None:
    return None if path is None else file_digest(path)
