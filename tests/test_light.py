"""Commands that only read what runs have left: what they import, and how they end."""

from __future__ import annotations

import errno
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from moca.engine.cli import main_guard
from moca.errors import UserError
from moca.light import light_guard
from tests.results.reported import write_all

ROOT = Path(__file__).parents[1]


def test_tables_and_pages_of_results_need_no_models(tmp_path: Path) -> None:
    """In a fresh interpreter: with these imports each of them would take ten seconds and more."""
    runs = write_all(tmp_path / 'runs')
    commands = [
        ('leaderboard', ['published']),
        ('leaderboard', ['show', str(runs), '--markdown', str(tmp_path / 'table.md')]),
        ('leaderboard', ['report', str(runs), '--out', str(tmp_path / 'page.html')]),
        ('analyze_logs', ['cal_train_time', str(runs / 'moca_0')]),
        ('visualize', ['curves', str(runs / 'moca_0'), '--out', str(tmp_path / 'curves.svg')]),
    ]
    code = f"""
        import importlib, sys
        heavy = {{'torch', 'torchvision', 'timm', 'mmcv', 'mmdet', 'mmseg', 'transformers'}}
        heavy |= {{'scipy', 'sklearn', 'matplotlib', 'cv2'}}
        for name, arguments in {commands!r}:
            heavy -= {{'matplotlib', 'cv2'}} if name == 'visualize' else set()
            assert importlib.import_module(f'tools.{{name}}').main(arguments) == 0
            assert not heavy & set(sys.modules), (name, arguments, heavy & set(sys.modules))
        assert 'mmengine.runner' not in sys.modules
    """
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert (tmp_path / 'table.md').is_file()
    assert (tmp_path / 'page.html').is_file()


@pytest.mark.parametrize(
    'error',
    [
        UserError('no\x1b such\nfile'),
        OSError(errno.ENOSPC, 'No space left on device', 'table.md'),
        KeyboardInterrupt(),
        SystemExit(143),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_command_ends_as_every_other_does(
    error: BaseException, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail() -> None:
        raise error

    ended = []
    for guard in (main_guard, light_guard):
        code = guard(fail)()
        ended.append((code, capsys.readouterr().err))
    assert ended[0] == ended[1]
    assert ended[0][0] != 0
    assert ended[0][1].count('\n') == 1


def test_what_nobody_has_thought_of_is_a_traceback() -> None:
    with pytest.raises(ZeroDivisionError):
        light_guard(lambda: 1 // 0)()
    assert light_guard(lambda: None)() == 0
