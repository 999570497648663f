"""What the demo says at its end, and the code that it ends with."""

from __future__ import annotations

import pytest

from moca.errors import UserError
from moca.results.leaderboard import Cell, Column, Leaderboard, Row
from tools.demo.__main__ import main as demo
from tools.demo.execute import StageFailed
from tools.demo.pipeline import conclusion
from tools.demo.plan import MOCA_ROW


@pytest.mark.parametrize(
    ('moca', 'random', 'words'),
    [
        ((30.0, 31.0, 32.0), (20.0, 21.0, 22.0), 'MOCA is 10.0 above'),
        ((20.0, 22.0, 24.0), (19.0, 21.0, 23.0), 'no claim'),
        ((19.0, 21.0, 23.0), (20.0, 22.0, 24.0), 'no claim'),
        ((10.0, 11.0, 12.0), (20.0, 21.0, 22.0), 'MOCA is 10.0 below'),
    ],
)
def test_conclusion_claims_no_more_than_the_deviations_allow(moca, random, words):
    column = Column('demo_linear_bn', 1, 1, 1, 'mIoU', 'x')
    cells = {
        (Row(MOCA_ROW, 'teacher', 'vit'), column): Cell(moca),
        (Row('random init', None, 'vit'), column): Cell(random),
    }
    text = conclusion(Leaderboard([], [column], cells, [], [], {}), 65.0)
    assert words in text
    assert '1:05 minutes' in text


@pytest.mark.parametrize(
    ('error', 'code', 'words'),
    [
        (StageFailed('detection failed (exit code 1)'), 1, 'goes on from there'),
        (KeyboardInterrupt(), 130, 'The same command goes on from here'),
        (UserError('work: holds files'), 2, 'error: work: holds files'),
    ],
)
def test_the_tool_ends_with_a_code_and_a_word(error, code, words, monkeypatch, capsys):
    def fail(*args: object) -> None:
        raise error

    monkeypatch.setattr('tools.demo.__main__.run_demo', fail)
    monkeypatch.setattr('tools.demo.__main__.signal.signal', lambda *args: None)
    assert demo([]) == code
    captured = capsys.readouterr()
    assert words in captured.out + captured.err
