"""The commands in README and docs are commands that the tools take, of configs that are there."""

from __future__ import annotations

import importlib
import re
import shlex
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]
PAGES = [REPOSITORY / 'README.md', *sorted((REPOSITORY / 'docs').glob('*.md'))]
WRITTEN_BY_THE_READER = {'configs/pretrain/simsiam_tiny-imagenet.py'}


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
            tools = [place for place, word in enumerate(words) if word.startswith('tools/')]
            found += [words[place:] for place in tools]
    return found


COMMANDS = [command for page in PAGES for command in commands_of(page)]


def test_there_are_commands() -> None:
    assert {page.name for page in PAGES if commands_of(page)} == {page.name for page in PAGES}
    shown = {command[1] for command in COMMANDS if command[0] == 'tools/visualize.py'}
    assert shown == {'features', 'attention', 'segmentation', 'detection', 'curves', 'progress'}


@pytest.mark.parametrize('command', COMMANDS, ids=' '.join)
def test_a_documented_command_is_understood(command: list[str]) -> None:
    tool, *arguments = command
    args = importlib.import_module(f'tools.{Path(tool).stem}').parse_args(arguments)
    configs = {word for word in arguments if word.startswith('configs/')} - WRITTEN_BY_THE_READER
    tasks = getattr(args, 'tasks', None) or []
    configs |= {f'configs/*/{task}.py' for task in tasks}
    for config in configs:
        assert list(REPOSITORY.glob(config)), config
