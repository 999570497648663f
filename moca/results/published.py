"""Results that others have published, shipped with the package, and their table for the docs."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from moca.records.metrics import metric_heading

_USUAL_ARCH = 'vit_base_patch16'

READ = 'R'
"""Evidence of a value that stands in its authors' code, README or model card."""


def published_results() -> dict[str, Any]:
    """The published results: `evidence`, `sources`, `images` and `results`.

    Of a result, ``value`` is in percent where the metric is a share; ``values`` are those of each
    split or seed (``over``) where they are known, and ``evidence`` is a letter of `evidence`.
    """
    text = resources.files('moca.results').joinpath('published_results.json').read_text('utf-8')
    return dict(json.loads(text))


def method_name(result: dict[str, Any]) -> str:
    """The method of a result, marked if its network is another than the plain ViT of runs here."""
    return str(result['method']) + (' (other network)' if result.get('other_network') else '')


def published_markdown() -> str:
    """A table of all of them: one line for each task, metric and source."""
    library = published_results()
    lines: dict[tuple[str, str, str, str], list[str]] = {}
    for result in library['results']:
        key = (result['task'], result['metric'], result['source'], result['evidence'])
        lines.setdefault(key, []).append(_result_text(result))
    table = [
        '| task | metric | ViT-B/16 unless said | source | evidence |',
        '|---|---|---|---|---|',
    ]
    for (task, metric, source, evidence), texts in lines.items():
        said = library['sources'][source]
        heading = metric_heading(metric)
        table.append(f'| {task} | {heading} | {", ".join(texts)} | {said} | {evidence} |')
    legend = '; '.join(f'{letter}: {text}' for letter, text in library['evidence'].items())
    return '\n'.join(table) + f'\n\nEvidence: {legend}.\n'


def _result_text(result: dict[str, Any]) -> str:
    text = f'{method_name(result)} {result["value"]}'
    if result['arch'] != _USUAL_ARCH:
        text += f' ({result["arch"]})'
    if 'values' in result:
        text += f' ({result["over"]}: {" ".join(map(str, result["values"]))})'
    if 'error' in result:
        text += f' ±{result["error"]}'
    return text + (f' ({result["remark"]})' if 'remark' in result else '')
