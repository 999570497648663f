"""The counting of kills: a signal that does not come counts for nothing, and ends are read."""

from __future__ import annotations

import random
import signal
from pathlib import Path
from typing import Any

import pytest

from tests.campaign import kills
from tests.campaign.kills import Kills, Reference, draw_moment
from tests.campaign.promises import Fault, check_other, check_queue_signal, check_signal
from tests.campaign.tiny_runs import KINDS, Kind, run_folders, starts
from tests.campaign.tool_runs import Ended, Moment, Start

KILL, TERM = Moment('step', 3), Moment('step', 3, number=signal.SIGTERM)
RUN = ['start-up before_run', 'x before_train', 'x before_train_iter', 'x after_train_iter']


def ended(code: int, *events: str, said: str = '') -> Ended:
    return Ended(code, said, [*RUN, *events], [])


class TestWhetherASignalHasCome:
    """With runs that are made up: 3 steps, and the signal comes where its moment is among them."""

    def case(self, monkeypatch: pytest.MonkeyPatch, *moments: Moment) -> list[Moment]:
        drawn, started = iter(moments), []

        def pretend(start: Start, **_: Any) -> list[Ended]:
            started.append(start.moment)
            (start.work_dir.parent / 'left').touch()
            assert start.moment
            if start.moment.count > 8:
                return [Ended(0, '', [], [])]
            if start.moment.count > 3:
                return [ended(0)]
            return [ended(-9, f'signal {start.moment.number}')]

        reference = Reference.__new__(Reference)
        reference.told, reference.counts, reference.runs = [], {'step': 9}, {}
        monkeypatch.setattr(kills, 'run', pretend)
        monkeypatch.setattr(kills, 'check_left', lambda *args: None)
        monkeypatch.setattr(kills, 'check_same', lambda *args: None)
        monkeypatch.setattr(kills, 'go_on', lambda *args: None)
        monkeypatch.setattr(kills, 'draw_moment', lambda *args: next(drawn))
        monkeypatch.setattr(Reference, 'of', lambda *args: reference)
        return started

    def test_it_is_drawn_again_and_the_run_starts_as_before(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        late, soon = Moment('step', 7, 0.3), Moment('step', 2, 0.3)
        started = self.case(monkeypatch, late, soon, soon)
        folder = tmp_path / 'case'
        folder.mkdir()
        assert Kills(0).run(0, folder).detail.startswith('SIGKILL 0.000 s after step 2')
        assert [moment.count for moment in started[:2]] == [7, 2]
        assert started[1].delay == 0  # of events that were seen, and not behind the last
        assert not (tmp_path / 'case_kept').exists()

    def test_one_that_never_comes_is_no_promise_kept(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.case(monkeypatch, *[Moment('step', 7)] * 20)
        folder = tmp_path / 'case'
        folder.mkdir()
        outcome = Kills(0).run(0, folder)
        assert outcome.result == 'no signal'
        assert not (folder / 'left').exists()

    def test_a_run_that_has_nothing_left_to_do_gets_no_second_one(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Two signals are drawn for case 3 of seed 0."""
        started = self.case(monkeypatch, Moment('step', 2), Moment('step', 9))
        folder = tmp_path / 'case'
        folder.mkdir()
        assert Kills(0).run(3, folder).detail == 'SIGKILL 0.000 s after step 2'
        assert len(started) == 2


class TestEnds:
    def test_a_kill_that_came_is_seen_in_the_exit_status(self, tmp_path: Path) -> None:
        check_signal(KILL, 0, tmp_path, ended(-9, 'signal SIGKILL'))
        with pytest.raises(Fault, match='exit 0'):
            check_signal(KILL, 0, tmp_path, ended(0, 'signal SIGKILL'))

    def test_a_signal_is_heeded_before_the_next_step(self, tmp_path: Path) -> None:
        rest = ('step after_train_iter', 'end after_run')
        check_signal(TERM, 0, tmp_path, ended(0, 'signal SIGTERM', *rest))
        with pytest.raises(Fault, match='not heeded'):
            check_signal(
                TERM, 0, tmp_path, ended(0, 'signal SIGTERM', 'step before_train_iter', *rest)
            )
        trained = ended(0, 'signal SIGTERM', 'step before_train_iter', *rest)
        check_signal(TERM, 0, tmp_path, trained, alone=False)

    def test_within_a_run_a_signal_is_handled(self, tmp_path: Path) -> None:
        check_signal(TERM, 0, tmp_path, Ended(-15, '', ['start before_run', 'signal SIGTERM'], []))
        check_signal(TERM, 0, tmp_path, ended(-15, 'end after_run', 'signal SIGTERM'))
        with pytest.raises(Fault, match='not heeded'):
            check_signal(TERM, 0, tmp_path, ended(-15, 'signal SIGTERM'))

    def test_what_is_said_and_saved_at_its_end(self, tmp_path: Path) -> None:
        said = 'x\nInterrupted. Saved: iter_1.pth.'
        with pytest.raises(Fault, match='1 steps were taken, the newest checkpoint is 0'):
            check_signal(TERM, 0, tmp_path, ended(143, 'signal SIGTERM', said=said))
        validates = ('validation before_val', 'signal SIGTERM', 'validation after_val_iter')
        check_signal(TERM, 0, tmp_path, ended(143, *validates, said=said))
        over = ('validation before_val', 'validation after_val', 'x y', 'signal SIGTERM')
        with pytest.raises(Fault, match='1 steps were taken, the newest checkpoint is 0'):
            check_signal(TERM, 0, tmp_path, ended(143, *over, said=said))
        for code, text, result in (
            (143, 'Saved', 'unnamed'),
            (143, 'Traceback', 'traceback'),
            (1, said, 'traceback'),
            (130, said, 'traceback'),
        ):
            with pytest.raises(Fault, match=result):
                check_signal(TERM, 0, tmp_path, ended(code, 'signal SIGTERM', said=text))

    def test_a_queue_at_work_ends_with_the_status_of_its_signal(self, tmp_path: Path) -> None:
        """Before its first run SIGTERM is not its own yet; after the last one all is done."""
        begun, rest = ['log open:queue.log'], ['signal SIGTERM']
        said = 'Interrupted. x'
        check_queue_signal(TERM, [tmp_path], ended(143, *begun, *rest, said=said))
        check_queue_signal(TERM, [tmp_path], ended(-15, 'record mkdir:a', *rest))
        check_queue_signal(KILL, [tmp_path], ended(-9, *begun, 'signal SIGKILL'))
        for code, text in (
            (-15, ''),
            (0, ''),
            (130, said),
            (143, 'x'),
            (143, f'Traceback\n{said}'),
        ):
            with pytest.raises(Fault):
                check_queue_signal(TERM, [tmp_path], ended(code, *begun, *rest, said=text))
        (tmp_path / 'run.json').write_text('{"status": "finished"}')
        check_queue_signal(TERM, [tmp_path], ended(0, *begun, *rest))
        with pytest.raises(Fault):
            check_queue_signal(TERM, [tmp_path, tmp_path / 'b'], ended(0, *begun, *rest))

    @pytest.mark.parametrize(
        ('victim', 'code', 'said'),
        [
            (
                -9,
                1,
                'error: a process has ended without a word (process 1 on x, which ended first)',
            ),
            (143, 143, 'Interrupted. Saved: x'),
            (143, 0, ''),
            (-15, 2, 'error: process 1 of 2 did not come to an agreement'),
        ],
    )
    def test_the_other_process_ends_with_the_cause(self, victim: int, code: int, said: str) -> None:
        other = ended(code, 'end after_run', said=said)
        check_other(1, ended(victim), other)
        wrong = (
            ended(code, 'end after_run', said='Traceback\n' + said),
            ended(-9, 'end after_run', said=said),  # it waited until it was killed
            ended(1, 'end after_run', said='error: Connection reset by peer'),
            ended(0, said=said),  # before it had done its work
        )
        for each in wrong:
            with pytest.raises(Fault):
                check_other(1, ended(victim), each)


def test_moments_are_drawn_of_all_phases_signals_and_files() -> None:
    draw, counts = random.Random(0), {'step': 2, 'end': 1}
    found = [draw_moment(draw, counts, [Path('a'), Path('b')]) for _ in range(300)]
    assert {moment.number for moment in found} == {9, 15, 2}
    assert {str(moment.path) for moment in found} >= {'a/run.json', 'b/iter_4.pth', 'None'}
    assert {(moment.phase, moment.count) for moment in found} == {
        *(('step', 1), ('step', 2), ('end', 1), ('file', 1)),
    }
    assert all(moment.to_group for moment in found if moment.number == signal.SIGINT)
    assert not any(moment.to_group for moment in found if moment.number == signal.SIGTERM)
    assert not any(draw_moment(draw, counts).to_group for _ in range(50))


def test_a_queue_is_told_where_to_run_and_its_work_dirs_are_found(tmp_path: Path) -> None:
    (queue,) = (kind for kind in KINDS if kind.is_queue)
    (start,) = starts(queue, ['run'], tmp_path)
    assert (start.directory, list(start.arguments)) == (tmp_path, ['run'])
    assert run_folders(queue, tmp_path) == []
    for name in ('b', 'a'):
        (tmp_path / 'work_dirs/protocol' / name).mkdir(parents=True)
    assert [path.name for path in run_folders(queue, tmp_path)] == ['a', 'b']
    assert run_folders(Kind('x', 'train', lambda folder: []), tmp_path) == [tmp_path / 'run']
