"""The commands in README and docs are commands that the tools take, of configs that are there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

from moca.results.plan import task_path

REPOSITORY = Path(__file__).parents[1]
PAGES = [
    *(REPOSITORY / 'README.md', REPOSITORY / 'CONTRIBUTING.md', REPOSITORY / 'CHANGELOG.md'),
    *sorted((REPOSITORY / 'docs').glob('*.md')),
]
WRITTEN_BY_THE_READER = {'configs/pretrain/simsiam_tiny-imagenet.py', 'cracks.py'}
WITHOUT_COMMANDS = {
    'fidelity.md',
    'reliability.md',
    'security.md',
    'versions.md',
    'CONTRIBUTING.md',
    'CHANGELOG.md',
}


def braces(word: str) -> list[str]:
    """``a{b,c}`` as a shell expands it."""
    head, brace, rest = word.partition('{')
    inner, _, tail = rest.partition('}')
    return [head + part + tail for part in inner.split(',')] if brace else [word]


def commands_of(page: Path) -> list[list[str]]:
    """The words of each command that starts a tool, from the tool on."""
    found = []
    for block in re.findall(r'```sh\n(.*?)```', page.read_text(), re.DOTALL):
        for command in block.replace('\\\n', ' ').splitlines():
            words = [w for word in shlex.split(command, comments=True) for w in braces(word)]
            places = [place for place, word in enumerate(words) if re.match(r'tools[/.]', word)]
            found += [words[place:] for place in places]
    return found


def started_by(command: list[str]) -> list[str]:
    """The command of a tool that a launch script starts, without what is the launcher's."""
    script = re.fullmatch(r'tools/(dist|slurm)_(\w+)\.sh', command[0])
    if script is None:
        return command
    launcher, tool = script.groups()
    gpus = 2 if tool == 'test' else 1  # behind the config, and a test's checkpoint
    words = command[3:] if launcher == 'slurm' else [*command[1:][:gpus], *command[1:][gpus + 1 :]]
    return [f'tools/{tool}.py', *words]


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def test_there_are_commands() -> None:
    assert {page.name for page in PAGES if not commands_of(page)} <= WITHOUT_COMMANDS
    shown = {command[1] for command in COMMANDS if command[0] == 'tools/visualize.py'}
    runs = {'segmentation', 'detection', 'panoptic', 'depth', 'curves', 'progress'}
    backbones = {'features', 'attention', 'video', 'correspondence', 'discovery'}
    assert shown == backbones | runs


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_a_documented_command_is_understood(command: list[str]) -> None:
    assert command[0].startswith('tools.') or (REPOSITORY / command[0]).exists()
    tool, *arguments = started_by(command)
    module = f'tools.{Path(tool).stem}' if tool.endswith('.py') else f'{tool}.__main__'
    args = importlib.import_module(module).parse_args(arguments)
    configs = {word for word in arguments if word.startswith('configs/')} - WRITTEN_BY_THE_READER
    protocols = tool == 'tools/leaderboard.py'  # tasks of other tools are no configs
    tasks = (getattr(args, 'tasks', None) or []) if protocols else []
    for config in configs:
        assert list(REPOSITORY.glob(config)), config
    for task in tasks:
        assert task in WRITTEN_BY_THE_READER or task_path(task), task


def links_of(page: Path) -> set[str]:
    """What a page links to beside the web, and the files of this project that it names."""
    text = page.read_text()
    links = {link.partition('#')[0] for link in re.findall(r'\]\(([^)\s]+)\)', text)}
    named = re.findall(r'`((?:moca|tools|tests|configs|docs)/[\w./-]+)`', text)
    return {link for link in links if link and '://' not in link} | {f'/{name}' for name in named}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: page.name)
def test_what_a_page_links_to_or_names_is_there(page: Path) -> None:
    assert links_of(page)
    missing = {
        link
        for link in links_of(page)
        if not (REPOSITORY / link[1:] if link[0] == '/' else page.parent / link).exists()
    }
    assert missing <= {f'/{name}' for name in WRITTEN_BY_THE_READER}


@pytest.mark.parametrize('page', PAGES[3:], ids=lambda page: page.name)
def test_a_page_has_one_title(page: Path) -> None:
    """Of several the site makes no table of contents."""
    text = re.sub(r'^```.*?^```', '', page.read_text(), flags=re.DOTALL | re.MULTILINE)
    assert len(re.findall(r'^# ', text, re.MULTILINE)) == 1


def test_readme_leads_to_every_page() -> None:
    linked = {Path(link).name for link in links_of(REPOSITORY / 'README.md')}
    assert {page.name for page in PAGES} - {'README.md'} <= linked
