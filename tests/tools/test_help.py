"""What tools import before their arguments are parsed: ``--help`` answers at once."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

from moca import command_line
from moca.engine.backends import BACKENDS
from moca.pretrain.moca.export import FORMATS

ROOT = Path(__file__).parents[2]

TOOLS = (
    *('analyze_logs', 'browse_dataset', 'checkpoint', 'confusion_matrix', 'draw_method', 'export'),
    *('get_flops', 'leaderboard', 'predict', 'prepare_data', 'pretrain', 'print_config'),
    *('test', 'train', 'visualize'),
)


def test_help_imports_nothing_heavy() -> None:
    """In a fresh interpreter: each of these takes a second and more."""
    code = f"""
        import importlib, sys
        import moca
        heavy = {{'torch', 'torchvision', 'timm', 'mmcv', 'mmdet', 'mmseg', 'transformers'}}
        heavy |= {{'matplotlib', 'pandas', 'scipy', 'sklearn'}}
        for name in {TOOLS!r}:
            tool = importlib.import_module(f'tools.{{name}}')
            try:
                tool.parse_args(['--help'])
            except SystemExit as ended:
                assert not ended.code
            assert not heavy & set(sys.modules), (name, heavy & set(sys.modules))
    """
    result = subprocess.run(
        [sys.executable, '-c', textwrap.dedent(code)], capture_output=True, text=True, cwd=ROOT
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.count('usage:') == len(TOOLS)


def test_what_help_lists_is_what_there_is() -> None:
    assert tuple(BACKENDS) == command_line.LOG_BACKENDS
    assert set(FORMATS) == set(command_line.EXPORT_FORMATS)
