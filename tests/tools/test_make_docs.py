"""The pages of the site: links, docstrings of configs, and the published numbers beside them."""

from __future__ import annotations

import importlib
import json
import posixpath
import re
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools.make_docs import (
    PUBLISHED,
    command_and_remarks,
    config_page,
    main,
    protocol_of,
    published_table,
    relinked,
    sections,
    write_pages,
)

ROOT = Path(__file__).parents[2]
LIBRARY = json.loads((ROOT / PUBLISHED).read_text())


def test_links_lead_to_pages_and_become_text_where_there_is_none() -> None:
    site = {
        'docs/a.md': 'a.md',
        'docs/img/b.png': 'img/b.png',
        'configs/x/y.py': 'configs/x/y.md',
        'CONTRIBUTING.md': 'contributing.md',
    }
    text = (
        '[y](../configs/x/y.py) [`code`](../moca/errors.py) [here](#part) ![b](img/b.png) '
        '[web](https://a.b/c.md)\n```sh\nls [y](../configs/x/y.py)\n```\n'
    )
    assert relinked(text, 'docs/a.md', site) == (
        '[y](configs/x/y.md) `code` [here](#part) ![b](img/b.png) '
        '[web](https://a.b/c.md)\n```sh\nls [y](../configs/x/y.py)\n```\n'
    )
    assert relinked('[a](docs/a.md#one)', 'CONTRIBUTING.md', site) == '[a](a.md#one)'
    assert relinked('[a](../../docs/a.md)', 'configs/x/y.py', site) == '[a](../../a.md)'


def test_sentences_behind_a_command_are_no_code() -> None:
    command = 'tools/train.py a.py\n    --amp'
    assert command_and_remarks(command) == (command, [])
    assert command_and_remarks(f'{command}\n    ViT-L: --x\n    y=2\n    As B: --z') == (
        command,
        ['ViT-L: --x y=2', 'As B: --z'],
    )


def test_a_docstring_falls_into_its_parts() -> None:
    lead, parts = sections(
        'A probe\nof two lines.\n\nMore: of it.\nSource: a paper,\npage 3.\nCommand: do\n    this\n'
        'Published, ViT-B/16, mIoU: MAE 40.6. See here: there.\nCost: nothing.'
    )
    assert lead == 'A probe of two lines.'
    assert parts == [
        ('', 'More: of it.'),
        ('Source', 'a paper,\npage 3.'),
        ('Command', 'do\n    this'),
        ('Published', ', ViT-B/16, mIoU: MAE 40.6. See here: there.'),
        ('Cost', 'nothing.'),
    ]


def test_a_config_has_a_page_with_what_was_published_on_it() -> None:
    path = 'configs/segmentation/cityscapes/linear.py'
    source = (ROOT / path).read_text()
    protocol = protocol_of(source)
    assert protocol['published'] == 'cityscapes_linear_2975'
    page = config_page(path, source, LIBRARY)
    assert page.startswith('# Cityscapes linear\n')
    assert '**Published**, ViT-B/16, mIoU' in page
    assert '```text\ntools/train.py configs/segmentation/cityscapes/linear.py' in page
    rows = [line for line in page.splitlines() if line.startswith('| cityscapes')]
    tasks = {'cityscapes_linear_2975', 'cityscapes_linear_100', 'cityscapes_linear_372'}
    expected = [result for result in LIBRARY['results'] if result['task'] in tasks]
    assert len(rows) == len(expected) > 8
    values = {(r['task'].replace('_', r'\_'), r['method'], str(r['value'])) for r in expected}
    cells = [[cell.strip() for cell in row.strip('|').split('|')] for row in rows]
    assert {(c[0], c[2], c[4].split(' ')[0]) for c in cells} == values
    assert source.strip() in page


def test_text_that_means_something_to_markdown_is_shown_as_it_is() -> None:
    library = dict(
        sources=dict(s='a_b|c'),
        evidence=dict(R='read'),
        results=[dict(task='t', metric='m', method='<b>x*', arch='v', value=1, source='s',
                      evidence='R', remark='one | two')],
    )  # fmt: skip
    table = published_table(['t'], library)
    assert r'\<b\>x\*' in table
    assert '\n- s: a\\_b\\|c.\n' in table
    row = table.splitlines()[2]
    assert len(re.findall(r'(?<!\\)\|', row)) == 8
    assert published_table(['absent'], library) == ''


def test_every_page_is_written_and_every_link_leads_to_one(tmp_path: Path) -> None:
    site = write_pages(ROOT, tmp_path / 'site')
    pages = {path.relative_to(tmp_path / 'site').as_posix(): path.read_text()
             for path in (tmp_path / 'site').rglob('*.md')}  # fmt: skip
    assert set(site.values()) <= {*pages, *(f'img/{p.name}' for p in (ROOT / 'docs/img').iterdir())}
    for config in (ROOT / 'configs').rglob('*.py'):
        parts = config.relative_to(ROOT).parts
        if '_base_' not in parts and 'demo' not in parts:
            assert f'{config.relative_to(ROOT).with_suffix("").as_posix()}.md' in pages
    for page, text in pages.items():
        prose = re.sub(r'^```.*?^```$', '', text, flags=re.MULTILINE | re.DOTALL)
        for link in re.findall(r'\]\(([^)\s#]+)', prose):
            if '://' not in link:
                there = posixpath.normpath(posixpath.join(posixpath.dirname(page), link))
                assert (tmp_path / 'site' / there).is_file(), (page, link)
    nav = re.findall(r'[\w/]+\.md', (ROOT / 'mkdocs.yml').read_text().partition('plugins:')[0])
    assert set(nav) <= set(pages)
    assert len(nav) == len(set(nav))


def test_a_folder_of_other_files_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / 'mine.txt').touch()
    with pytest.raises(SystemExit):
        main([str(tmp_path)])
    assert (tmp_path / 'mine.txt').exists()


def test_roles_in_docstrings_become_code(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, 'griffe', SimpleNamespace(Extension=object))  # of the site
    roles = importlib.import_module('tools.docs_roles')
    docstring = SimpleNamespace(value='See :func:`moca.a.b` and :class:`~C`, not :x:`d` or ``e``.')
    for each in (SimpleNamespace(docstring=docstring), SimpleNamespace(docstring=None)):
        roles.CodeForRoles().on_object(obj=each, loader=None)
    assert docstring.value == 'See `moca.a.b` and `C`, not :x:`d` or ``e``.'
