"""What of a race is finished, and its table as logged."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from moca.errors import UserError
from moca.results.race_table import check_steps, race_markdown, read_standings
from tests.results.raced import leave_checkpoint, racer, ran


def test_finished_is_what_has_a_checkpoint_and_its_last_accuracy(tmp_path: Path) -> None:
    assert not racer(tmp_path, 'absent').finished
    ran(tmp_path / 'whole', 9, 3, [5, 20])
    assert racer(tmp_path, 'whole').finished
    ran(tmp_path / 'blind', 9, 3, [])
    assert not racer(tmp_path, 'blind').finished
    assert racer(tmp_path, 'blind', watched=False).finished
    # the log is of a start after that of the checkpoint
    ran(tmp_path / 'later', 9, 3, [], steps=10)
    leave_checkpoint(tmp_path / 'later/epoch_2.pth', steps=40)
    assert not racer(tmp_path, 'later', watched=False).finished
    ran(tmp_path / 'killed', 9, 3, [5])  # between its last step and the accuracy
    assert not racer(tmp_path, 'killed').finished


def test_a_run_too_short_for_a_log_line_is_finished_all_the_same(tmp_path: Path) -> None:
    ran(tmp_path / 'short', 9, 3, [5, 20], steps=4)
    (log,) = tmp_path.glob('short/*/vis_data/scalars.json')
    log.write_text('\n'.join(line for line in log.read_text().split('\n') if 'loss' not in line))
    standings = read_standings([racer(tmp_path, 'short')])
    assert '| short | 4 | – | – | 5.0 → 20.0 | 6.0 → 21.0 |' in race_markdown(standings, None)
    # the loss of its first epoch alone, as where an interval is longer than an epoch
    log.write_text(
        '\n'.join([*log.read_text().split('\n'), '{"loss": 3.0, "time": 1.0, "step": 2}'])
    )
    assert racer(tmp_path, 'short').finished
    log.write_text(
        '{"loss": 3.0, "time": 1.0, "step": 2}\n{"knn/top1_k10": 5, "epoch": 0, "step": 0}'
    )
    assert not racer(tmp_path, 'short').finished


def test_the_table_has_first_and_last_values_the_best_first(tmp_path: Path) -> None:
    ran(tmp_path / 'a', 9, 3, [5.0, 31.0, 20.0])
    ran(tmp_path / 'b', 0.5, 0.25, [6.0, 25.0])
    standings = read_standings([racer(tmp_path, name) for name in ('a', 'b', 'absent')])
    first, _, b, a, *rest = race_markdown(standings, 500).splitlines()
    assert first == '| method | steps | s/step | loss | k-NN top1_k10, % | k-NN top1_k20, % |'
    assert b == '| b | 40 | 0.60 | 0.5 → 0.25 | 6.0 → 25.0 | 7.0 → 26.0 |'
    assert a == '| a | 40 | 0.60 | 9 → 3 | 5.0 → 20.0 | 6.0 → 21.0 |'
    # sqrt(.26 * .74 / 500) = 1.96 %
    assert 'up to 2.0 points' in '\n'.join(rest)
    assert 'points' not in race_markdown(read_standings([racer(tmp_path, 'a')]), None)

    ran(tmp_path / 'good', 9, 3, [5.0, 89.0])
    ran(tmp_path / 'half', 9, 3, [5.0, 49.0])
    ran(tmp_path / 'unwatched', 9, 3, [])
    others = [racer(tmp_path, name, name != 'unwatched') for name in ('unwatched', 'half', 'good')]
    taught = replace(others[1], teachers=(Path('x/y/epoch_3.pth'), Path('z.pth')))
    said = race_markdown(read_standings([others[0], taught, others[2]]), 500)
    assert [line.split(' | ')[0] for line in said.splitlines()[2:5]] == [
        *('| good', '| half', '| unwatched')
    ]
    assert '| – | – |' in said
    assert 'up to 2.2 points' in said  # sqrt(.5 * .5 / 500)
    assert 'half learns from y/epoch_3.pth and z.pth' in said


def test_other_numbers_of_steps_are_no_race(tmp_path: Path) -> None:
    for name, steps in (('a', 40), ('b', 40), ('c', 20)):
        ran(tmp_path / name, 9, 3, [5, 20], steps)
    check_steps(read_standings([racer(tmp_path, name) for name in 'ab']))
    check_steps([])
    with pytest.raises(UserError, match='40 of a, 20 of c'):
        check_steps(read_standings([racer(tmp_path, name) for name in 'ac']))
