"""Replay recorded dense protocols: ``python -m tests.replay_dense DIR``.

A recording is ``NAME.json`` (facts) with ``NAME.safetensors`` (tensors) beside it. Every one below
DIR goes through the functions that the evaluations use. Exits with status 1 if an error is beyond
its limit, and with 2 if there is nothing to replay.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from safetensors.torch import load_file

from moca.errors import UserError
from tests.replay_dense.report import Report, quiet, table_of

MODULES = {
    'hummingbird': 'open-hummingbird-eval',
    'capi': 'capi',
    'davis': 'davis2017-evaluation',
    'lost': 'LOST',
    'spair': 'probe3d',
    'depth': 'dinov3',
    'eomt': 'eomt',
}
"""Modules of this package with ``replay(facts, tensors, report)``, each with the name of the
repository that was recorded."""


def module_of(facts_file: Path, facts: dict[str, Any]) -> str | None:
    """Which module replays a recording: by the file's name, its folder's, or what was recorded."""
    for name in (facts_file.stem.lower(), facts_file.parent.name.lower()):
        for module in MODULES:
            if name.startswith(module):
                return module
    repository = str((facts.get('source') or {}).get('repository', ''))
    return next((m for m, source in MODULES.items() if source in repository), None)


def recordings(folder: Path) -> list[Path]:
    """Every ``NAME.json`` below a folder that has ``NAME.safetensors`` beside it."""
    found = folder.rglob('*.json')
    return sorted(path for path in found if path.with_suffix('.safetensors').is_file())


def replay(facts_file: Path, module: str, facts: dict[str, Any], name: str) -> Report:
    """Replay one recording; a crash is a failure that does not hide the other ones."""
    report = Report(name)
    tensors = load_file(facts_file.with_suffix('.safetensors'))
    try:
        importlib.import_module(f'tests.replay_dense.{module}').replay(facts, tensors, report)
    except (UserError, KeyError, ValueError, RuntimeError, AttributeError, TypeError) as error:
        report.add('ran to its end', 0.0, float('nan'), f'{type(error).__name__}: {error}')
    return report


def main(arguments: list[str] | None = None) -> int:
    """Replay all recordings below a folder from the command line."""
    parser = argparse.ArgumentParser(
        prog='tests.replay_dense', description=(__doc__ or '').split('\n\n')[0]
    )
    parser.add_argument('recordings', type=Path, help='a folder of recordings')
    args = parser.parse_args(arguments)
    quiet()
    reports, skipped = [], []
    for path in recordings(args.recordings):
        facts = json.loads(path.read_text())
        name = str(path.relative_to(args.recordings).with_suffix(''))
        name = path.stem if path.stem == path.parent.name else name
        module = module_of(path, facts)
        if module is None or importlib.util.find_spec(f'tests.replay_dense.{module}') is None:
            skipped.append(name)
        else:
            reports.append(replay(path, module, facts, name))
    Console(width=None if sys.stdout.isatty() else 140).print(table_of(reports), markup=False)
    for name in skipped:
        print(f'{name}: skipped, no protocol here replays it')
    if not reports:
        print(f'error: {args.recordings}: nothing to replay below it.', file=sys.stderr)
        return 2
    failed = sum(not report.passed for report in reports)
    print(f'{len(reports) - failed} of {len(reports)} recordings as recorded')
    return 1 if failed else 0


if __name__ == '__main__':
    sys.exit(main())
