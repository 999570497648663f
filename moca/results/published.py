"""Results that others have published, shipped with the package, and their table for the docs."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

_USUAL_ARCH = 'vit_base_patch16'


def published_results() -> dict[str, Any]:
    """The published results: `sources`, `images` and `results`."""
    text = resources.files('moca.results').joinpath('published_results.json').read_text('utf-8')
    return dict(json.loads(text))


def method_name(result: dict[str, Any]) -> str:
    """The method of a result, marked if its network is another than the plain ViT of runs here."""
    return str(result['method']) + (' (other network)' if result.get('other_network') else '')


def published_markdown() -> str:
    """A table of all of them: one line for each task, metric and source."""
    library = published_results()
    lines: dict[tuple[str, str, str], list[str]] = {}
    for result in library['results']:
        text = f'{method_name(result)} {result["value"]}'
        if result['arch'] != _USUAL_ARCH:
            text += f' ({result["arch"]})'
        if 'error' in result:
            text += f' ±{result["error"]}'
        lines.setdefault((result['task'], result['metric'], result['source']), []).append(text)
    table = ['| task | metric | ViT-B/16 unless said | source |', '|---|---|---|---|']
    for (task, metric, source), texts in lines.items():
        table.append(f'| {task} | {metric} | {", ".join(texts)} | {library["sources"][source]} |')
    return '\n'.join(table) + '\n'
