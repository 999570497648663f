"""Write the pages of the site: those of docs/, one for each config, one for each room of moca.

`make docs` runs it before the site is built. It imports nothing of moca: the site needs neither
torch nor a GPU. Links between pages are kept; a link to a file that is no page becomes its text.

Example:
    python tools/make_docs.py build/docs
"""

from __future__ import annotations

import argparse
import ast
import json
import posixpath
import re
import shutil
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]

PUBLISHED = 'moca/results/published_results.json'
MADE = '.made_by_make_docs'

# Files beside docs/ that are pages, and what they are called on the site.
_BESIDE = {'CHANGELOG.md': 'changelog.md', 'CONTRIBUTING.md': 'contributing.md'}

_LINK = re.compile(r'(!?)\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s]+)\)')
_LABEL = re.compile(r'^(Source|Command|Published|Cost|Layout)\b:?[ ]?')
_SPECIAL = re.compile(r'([\\*_<>\[\]|`])')

_GROUPS = {
    'segmentation': 'Segmentation',
    'detection': 'Detection, instances and panoptic segmentation',
    'depth': 'Depth',
    'dense': 'Patch features, without training',
    'imagenet': 'Image level',
    'pretrain': 'Pre-training',
}


def relinked(text: str, page: str, site: Mapping[str, str]) -> str:
    """Return a page's text with its links as the site has them.

    Args:
        text: Markdown.
        page: Path of the file in the repository.
        site: Path on the site of each file or folder of the repository that has a page.
    """

    def link(match: re.Match[str]) -> str:
        mark, label, target = match.groups()
        path, hash_, fragment = target.partition('#')
        if '://' in target or not path or path.startswith('mailto:'):
            return match[0]
        there = posixpath.normpath(posixpath.join(posixpath.dirname(page), path))
        if there not in site:
            return label if not mark else match[0]
        here = posixpath.dirname(site[page])
        return f'{mark}[{label}]({posixpath.relpath(site[there], here or ".")}{hash_}{fragment})'

    pieces = re.split(r'(^```.*?^```$)', text, flags=re.MULTILINE | re.DOTALL)  # code stays
    return ''.join(p if p.startswith('```') else _LINK.sub(link, p) for p in pieces)


def plain(text: str) -> str:
    """Return text that Markdown shows as it is."""
    return _SPECIAL.sub(r'\\\1', text)


def sections(docstring: str) -> tuple[str, list[tuple[str, str]]]:
    """Split a config's docstring into its first sentence and labeled parts.

    Example:
        >>> sections('A probe.\\n\\nSource: a paper,\\npage 3.\\nCost: nothing.')
        ('A probe.', [('Source', 'a paper,\\npage 3.'), ('Cost', 'nothing.')])
    """
    lead, _, rest = docstring.strip().partition('\n\n')
    found: list[tuple[str, list[str]]] = []
    for line in rest.splitlines():
        label = _LABEL.match(line)
        if label:
            found.append((label[1], [line[label.end() :].strip()]))
        elif found:
            found[-1][1].append(line)
        else:
            found.append(('', [line]))
    return ' '.join(lead.split()), [(label, '\n'.join(ls).strip()) for label, ls in found]


def protocol_of(source: str) -> dict[str, Any]:
    """Return the ``protocol`` of a config's text, where it has one, as far as it is literal."""
    for node in ast.parse(source).body:
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == 'protocol':
            call = node.value
            assert isinstance(call, ast.Call)
            return {str(word.arg): _literal(word.value) for word in call.keywords if word.arg}
    return {}


def _literal(node: ast.expr) -> Any:
    try:
        return ast.literal_eval(node)
    except ValueError:
        return ast.unparse(node)


def published_table(tasks: Iterable[str], library: Mapping[str, Any]) -> str:
    """Return a table of the published results of some tasks; nothing where there are none.

    Sources and what the letters of the evidence mean stand below it.
    """
    lines: list[str] = []
    sources: dict[str, str] = {}
    for task in tasks:
        for result in (r for r in library['results'] if r['task'] == task):
            values = result.get('values')
            several = f' ({result["over"]}: {" ".join(map(str, values))})' if values else ''
            cells = [
                *(task, result['metric'], result['method'], result['arch']),
                f'{result["value"]}{several}',
                result['source'],
                f'{result["evidence"]}. {result.get("remark", "")}'.removesuffix('. '),
            ]
            sources[result['source']] = library['sources'][result['source']]
            lines.append('| ' + ' | '.join(plain(str(cell)) for cell in cells) + ' |')
    if not lines:
        return ''
    legend = '; '.join(f'{letter}: {plain(said)}' for letter, said in library['evidence'].items())
    head = '| task | metric | method | architecture | value | source | evidence |'
    table = '\n'.join([head, '|' + '---|' * 7, *lines])
    told = '\n'.join(f'- {plain(key)}: {plain(text)}.' for key, text in sorted(sources.items()))
    return f'{table}\n\n{told}\n\nEvidence: {legend}.\n'


def config_page(path: str, source: str, library: Mapping[str, Any]) -> str:
    """Return the page of a config: its docstring, what is published, and its text.

    Args:
        path: In the repository.
        source: The config.
        library: The published results.
    """
    lead, parts = sections(ast.get_docstring(ast.parse(source)) or '')
    protocol = protocol_of(source)
    text = [f'# {plain(str(protocol.get("title") or Path(path).stem))}', plain(lead)]
    for label, part in parts:
        if label == 'Command':
            command, remarks = command_and_remarks(part)
            text += ['```text', command, '```']
            if remarks:
                text.append('\n'.join(f'- {plain(remark)}' for remark in remarks))
        else:
            told = plain(' '.join(part.split()))
            text.append(f'**{label}**{"" if told[:1] == "," else ": "}{told}' if label else told)
    few = protocol.get('few_shot')
    tasks = [protocol.get('published'), *(few.values() if isinstance(few, dict) else ())]
    if table := published_table([str(task) for task in tasks if task], library):
        text += ['## Published', table]
    text += [f'## `{path}`', f'```python\n{source.strip()}\n```']
    return _joined(text)


def command_and_remarks(part: str) -> tuple[str, list[str]]:
    """Part a config's command from the sentences behind it, which are no code.

    Lines of options belong to the command; any other line begins a sentence with a capital.
    """
    lines = part.splitlines()
    end = next((n for n, line in enumerate(lines[1:], 1) if line.strip()[:1].isupper()), len(lines))
    remarks: list[str] = []
    for line in map(str.strip, lines[end:]):
        if line[:1].isupper() or not remarks:
            remarks.append(line)
        else:
            remarks[-1] += f' {line}'
    return '\n'.join(lines[:end]), remarks


def _joined(pieces: Sequence[str]) -> str:
    """Paragraphs with an empty line between; within a fence of code there is none."""
    text = '\n\n'.join(pieces) + '\n'
    return re.sub(r'```text\n\n(.*?)\n\n```', r'```text\n\1\n```', text, flags=re.DOTALL)


def config_index(pages: Mapping[str, str]) -> str:
    """Return a list of all configs with the first sentence of each, by kind.

    Args:
        pages: Text of each config by its path in the repository.
    """
    text = ['# Configs', 'Each is a file for `tools/train.py`, or `tools/pretrain.py`.']
    for group, title in _GROUPS.items():
        some = {path: s for path, s in pages.items() if path.split('/')[1] == group}
        if some:
            text.append(f'## {title}')
            text.append('\n'.join(_index_line(path, source) for path, source in some.items()))
    return _joined(text)


def _index_line(path: str, source: str) -> str:
    lead, _ = sections(ast.get_docstring(ast.parse(source)) or '')
    name = path.removeprefix('configs/').removesuffix('.py')
    return f'- [`{name}`]({name}.md): {plain(lead)}'


def api_page(room: str, modules: Sequence[str]) -> str:
    """Return the page of a room, which mkdocstrings fills from the docstrings of its modules."""
    blocks = [f'::: {module}\n    options:\n      heading_level: 2' for module in modules]
    return _joined([f'# `{room}`', *blocks])


def room_modules(root: Path) -> dict[str, list[str]]:
    """Modules of each room of `moca` that have anything to be shown, by dotted names."""
    rooms: dict[str, list[str]] = {}
    for path in sorted((root / 'moca').rglob('*.py')):
        parts = path.relative_to(root).with_suffix('').parts
        if path.name != '__init__.py':
            rooms.setdefault('.'.join(parts[:2]), []).append('.'.join(parts))
    return rooms


def write_pages(root: Path, out: Path) -> dict[str, str]:
    """Write all pages into a folder, which is emptied first; returns page by repository file."""
    configs = {
        path.relative_to(root).as_posix(): path.read_text('utf-8')
        for path in sorted((root / 'configs').rglob('*.py'))
        if path.relative_to(root).parts[1] in _GROUPS and '_base_' not in path.parts
    }
    rooms = room_modules(root)
    docs = {path.relative_to(root).as_posix() for path in (root / 'docs').glob('*.md')}
    images = {path.relative_to(root).as_posix() for path in (root / 'docs').glob('img/*')}
    site = {path: path.removeprefix('docs/') for path in docs | images}
    site |= {path: f'{path.removesuffix(".py")}.md' for path in configs}
    site |= {posixpath.dirname(path): 'configs/index.md' for path in configs}
    site |= {'configs': 'configs/index.md', 'README.md': 'index.md', **_BESIDE}
    for room, modules in rooms.items():
        page = f'api/{room}.md'
        site |= {name.replace('.', '/') + '.py': page for name in modules}
        site[room.replace('.', '/')] = page
    library = json.loads((root / PUBLISHED).read_text('utf-8'))
    texts = {site[p]: relinked((root / p).read_text('utf-8'), p, site) for p in [*docs, *_BESIDE]}
    texts |= {site[path]: config_page(path, text, library) for path, text in configs.items()}
    texts |= {f'api/{room}.md': api_page(room, modules) for room, modules in rooms.items()}
    texts['configs/index.md'] = config_index(configs)
    listed = '\n'.join(f'- [`{room}`]({room}.md)' for room in rooms)
    texts['api/index.md'] = _joined(['# Python', 'What each room of `moca` holds.', listed])
    if out.exists():
        shutil.rmtree(out)
    for page, text in texts.items():
        (out / page).parent.mkdir(parents=True, exist_ok=True)
        (out / page).write_text(text, 'utf-8')
    shutil.copytree(root / 'docs' / 'img', out / 'img')
    (out / MADE).touch()
    return site


def main(argv: Sequence[str] | None = None) -> None:
    """Write the pages and say how many."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument('out', type=Path, help='folder to write into; what it holds is removed')
    args = parser.parse_args(argv)
    if args.out.exists() and not (args.out / MADE).is_file() and any(args.out.iterdir()):
        parser.error(f'{args.out}: holds other files; give a folder of its own')
    write_pages(ROOT, args.out)
    print(f'{sum(1 for _ in args.out.rglob("*.md"))} pages in {args.out}')


if __name__ == '__main__':
    main()
