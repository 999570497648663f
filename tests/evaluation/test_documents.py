"""The commands in docs/looking.md and docs/watching.md are commands that the tool takes."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest

from tools.visualize import parse_args

REPOSITORY = Path(__file__).parents[2]
COMMANDS = [
    command
    for name in ('looking.md', 'watching.md')
    for block in re.findall(r'```sh\n(.*?)```', (REPOSITORY / 'docs' / name).read_text(), re.DOTALL)
    for command in block.replace('\\\n', ' ').splitlines()
    if command.startswith('python tools/visualize.py')
]


def test_there_are_commands() -> None:
    shown = {shlex.split(command)[2] for command in COMMANDS}
    assert shown == {'features', 'attention', 'segmentation', 'detection', 'curves', 'progress'}


@pytest.mark.parametrize('command', COMMANDS)
def test_a_documented_command_is_understood(command: str) -> None:
    parse_args(shlex.split(command)[2:])
