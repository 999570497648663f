"""What processes say to each other, with threads in their place and a store in memory."""

from __future__ import annotations

import json
import re
import resource
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from mmengine.config import Config
from torch import nn

from moca.engine import agreement, presence, same_run
from moca.engine.agreement import Failure, Processes, numbers
from moca.engine.meeting import joined, processes_of
from moca.engine.presence import Report, Roll
from moca.engine.resume import settle_resume
from moca.engine.same_run import check_same_device, check_same_start, differences, digests
from moca.errors import UserError


def together(size: int, act: Callable[[Processes], Any]) -> list[Any]:
    """What `act` returns for each of the processes, or the error it raises."""
    store = dist.HashStore()

    def one(rank: int) -> Any:
        try:
            return act(Processes(rank, size, lambda _: store))
        except UserError as error:
            return str(error)

    with ThreadPoolExecutor(size) as pool:
        return list(pool.map(one, range(size)))


@pytest.fixture
def left(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What processes say as they leave, which they do not do."""
    lines: list[str] = []

    def leave(self: Processes, code: int, line: str) -> None:
        lines.append(line)
        self._ended.set()

    monkeypatch.setattr(Processes, 'leave', leave)
    return lines


def refuse(rank: int, *others: int) -> int:
    if rank in others:
        raise UserError('x.pth: no such file.')
    return 10 * rank


class TestAgreement:
    def test_everybody_gets_all_answers_in_order_and_more_than_once(self) -> None:
        def act(processes: Processes) -> list[list[int]]:
            return [processes.everywhere('n', lambda: refuse(processes.rank)) for _ in range(2)]

        assert together(3, act) == [[[0, 10, 20]] * 2] * 3

    def test_only_the_first_decides(self) -> None:
        def act(processes: Processes) -> Any:
            return processes.first('which', lambda: [processes.rank, None])

        assert together(3, act) == [[0, None]] * 3

    def test_an_error_anywhere_is_raised_everywhere(self) -> None:
        def act(processes: Processes, *faulty: int) -> Any:
            return processes.everywhere('n', lambda: refuse(processes.rank, *faulty))

        assert together(3, lambda p: act(p, 2)) == ['x.pth: no such file. (process 2)'] * 3
        assert together(3, lambda p: act(p, 1, 2)) == ['x.pth: no such file. (processes 1, 2)'] * 3
        assert together(2, lambda p: act(p, 0, 1)) == ['x.pth: no such file.'] * 2

    def test_one_that_does_not_come_is_named(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(agreement, 'WAIT', 0.2)
        monkeypatch.setattr(agreement, '_END', 0.2)

        def look(processes: Processes) -> None:
            if processes.rank == 0:  # the third has come by then, however busy the machine is
                assert processes._store is not None
                processes._store.wait(['1/resume/2'], timedelta(seconds=60))

        def act(processes: Processes) -> Any:
            return processes.rank == 1 or processes.everywhere('resume', lambda: look(processes))

        first, absent, third = together(3, act)
        assert absent is True
        assert 'process 1 of 3 did not come to an agreement (resume) within 0 s' in first
        assert 'process 0 of 3 did not come' in third

    def test_the_first_failure_is_the_run_s(self) -> None:
        store = dist.HashStore()
        first, second = (Processes(rank, 2, lambda _: store) for rank in range(2))
        failure = second.fail(2, 'error: disk')
        assert (failure.rank, failure.code, failure.message) == (1, 2, 'error: disk')
        assert first.fail(1, 'error: connection closed') == failure
        assert second.whose(failure) == ''
        assert first.whose(failure).startswith(' (process 1 on ')

    def test_the_store_is_kept_for_those_that_are_there(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agreement, '_OWN_WORDS', 600)
        store = dist.HashStore()
        first = Processes(0, 3, lambda _: store, hosts=True)
        first._others = roll = Roll(store)
        killed = Report(store, 1)
        until = time.monotonic() + 20
        while not roll._known and time.monotonic() < until:
            roll.look(0.05)
        with ThreadPoolExecutor(1) as pool:
            keeping = pool.submit(first._keep_store)
            killed._connection.close()  # without a word
            time.sleep(0.2)
            assert not keeping.done()
            store.set('ended/2', '')
            keeping.result(60)
        assert first._gone == {1}

    @pytest.mark.parametrize('ends_itself', [True, False])
    def test_a_failure_of_all_is_said_once_and_is_nobody_s(
        self, ends_itself: bool, left: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Whichever thread of a process comes to say it, the words are the same."""

        monkeypatch.setattr(agreement, '_LOOK', 0.02)
        monkeypatch.setattr(agreement, '_OWN_WORDS', 600 if ends_itself else 0.02)
        store = dist.HashStore()
        first, second = (Processes(rank, 2, lambda _: store) for rank in range(2))
        failure = second.fail(2, 'error: no such file', of_all=True)
        first.watch()
        assert first._watcher is not None
        if ends_itself:
            assert first.fail(2, 'error: no such file', of_all=True) == failure
        first._watcher.join(60)
        assert left == ([] if ends_itself else ['error: no such file'])
        assert first.whose(failure) == ''

    def test_one_that_ends_without_a_word_is_noted_for_all(self) -> None:
        """Connections end with their processes, here by hand; a stranger's and a finished one's
        are nobody's end."""
        store = dist.HashStore()
        roll = Roll(store)
        reports = [Report(store, rank) for rank in (1, 2)]
        port, _ = json.loads(store.get('presence'))
        with socket.create_connection(('localhost', port)) as stranger:
            stranger.sendall(b'["guess", 1, "there"]')
        seen: list[Any] = []
        until = time.monotonic() + 0.2
        while time.monotonic() < until:
            seen += roll.look(0.05)
        assert seen == reports[0].look(0.01) == []
        first = Processes(0, 3, lambda _: store)
        for report in reports:
            report._connection.close()
        while len(seen) < 2 and time.monotonic() < until + 60:
            seen += roll.look(0.05)
        assert sorted(gone.rank for gone in seen) == [1, 2]
        store.set('finished/1', '')
        failures = [first._failure_of(store, gone) for gone in sorted(seen)]
        assert failures[0] is None
        assert failures[1] == Failure(2, socket.gethostname(), 1, agreement.KILLED)
        assert first.fail(1, 'error: connection closed') == failures[1]
        third = Report(store, 1)
        while not roll._known:
            roll.look(1)
        assert third.look(60) == []  # it is known
        roll._known.popitem()[0].close()  # as the end of the first process does
        assert third.look(60) == [(0, 'localhost')]

    def test_who_says_nothing_is_dropped_and_few_may_be_silent_at_a_time(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(presence, '_MOST_SILENT', 3)
        store = dist.HashStore()
        roll = Roll(store)
        port, _ = json.loads(store.get('presence'))
        strangers = [socket.create_connection(('localhost', port)) for _ in range(5)]
        report = Report(store, 1)  # comes behind them
        until = time.monotonic() + 60
        while len(roll._silent) < 3 and time.monotonic() < until:
            assert roll.look(0.01) == []
        for _ in range(2):
            assert roll.look(0.01) == []
        assert (len(roll._silent), len(roll._known)) == (3, 0)
        since = time.monotonic()
        roll.look(0.1)
        assert time.monotonic() - since >= 0.1  # the others are no work

        def pass_time() -> None:
            for other in roll._silent:
                roll._silent[other] -= presence._PATIENCE + 1

        pass_time()
        while not roll._known and time.monotonic() < until:
            roll.look(0.02)
        assert [who.rank for who in roll._known.values()] == [1]
        for stranger in strangers[:3]:
            assert stranger.recv(1) == b''
        assert report.look(60) == []
        pass_time()
        roll.look(0)
        assert not roll._silent
        assert report.look(0.01) == []  # known for as long as it lives

    def test_no_room_for_a_connection_is_no_work_for_the_first(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Within the limit of files a connection stays to be taken, and is once there is room."""
        monkeypatch.setattr(presence, '_PAUSE', 0.3)
        store = dist.HashStore()
        roll = Roll(store)
        report = Report(store, 1)
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, limit[1]))  # all numbers below are taken
        try:
            looks, until = 0, time.monotonic() + 0.2
            while time.monotonic() < until:
                assert roll.look(0.05) == []
                looks += 1
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        assert looks <= 6
        until = time.monotonic() + 60
        while not roll._known and time.monotonic() < until:
            roll.look(0.05)
        assert report.look(60) == []

    def test_one_that_is_dropped_before_it_was_heard_takes_nobody_for_dead(
        self, left: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(agreement, '_LOOK', 0.02)
        store = dist.HashStore()
        roll = Roll(store)
        second = Processes(1, 2, lambda _: store)
        second.watch()
        until = time.monotonic() + 60
        while not roll._silent and time.monotonic() < until:
            roll._listen(True)
            roll._selector.select(0.1)
            roll._accept()
        roll._drop(next(iter(roll._silent)))  # with what it has said unread
        while not roll._known and not left and time.monotonic() < until:
            roll.look(0.05)
        assert not left
        assert [who.rank for who in roll._known.values()] == [1]
        second.finish()

    def test_the_first_waits_for_those_that_are_there_and_not_for_one_that_is_gone(self) -> None:
        store = dist.HashStore()
        first = Processes(0, 3, lambda _: store, hosts=True)
        first.watch()
        reports = [Report(store, rank) for rank in (1, 2)]
        with ThreadPoolExecutor(1) as pool:
            ending = pool.submit(first.finish)
            assert first._ended.wait(60)  # before that a kill would end the run
            reports[1]._connection.close()  # killed at the very end
            time.sleep(0.3)
            assert not ending.done()
            since = time.monotonic()
            store.set('finished/1', '')
            ending.result()
        assert time.monotonic() - since < 30

    @pytest.mark.parametrize(
        ('function', 'said'),
        [
            (
                'create_server',
                [
                    r'process 0 has no connection with the others \(no port; '
                    f'{socket.gethostname()} has to let it listen'
                ],
            ),
            (
                'create_connection',
                [
                    rf'process {rank} has no connection with process 0 \(localhost:\d+: no port; '
                    for rank in (1, 2)
                ],
            ),
        ],
    )
    def test_failures_are_seen_where_connections_cannot_be(
        self,
        function: str,
        said: list[str],
        monkeypatch: pytest.MonkeyPatch,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        def refuse(*_: Any, **__: Any) -> None:
            raise OSError('no port')

        def leave(self: Processes, code: int, line: str) -> None:
            left[self.rank] = line
            self._ended.set()

        left: dict[int, str] = {}
        monkeypatch.setattr(presence.socket, function, refuse)
        monkeypatch.setattr(Processes, 'leave', leave)
        monkeypatch.setattr(agreement, '_LOOK', 0.02)
        store = dist.HashStore()
        processes = [Processes(rank, 3, lambda _: store) for rank in range(3)]
        for each in reversed(processes):  # the first one comes last
            each.watch()
        until = time.monotonic() + 60
        while any(each._others is None for each in processes) and time.monotonic() < until:
            time.sleep(0.01)
        processes[2].fail(2, 'error: disk')
        while len(left) < 2 and time.monotonic() < until:
            time.sleep(0.01)
        assert sorted(left) == [0, 1]
        assert all(line.startswith('error: disk (process 2 on ') for line in left.values())
        warnings = sorted(capsys.readouterr().err.splitlines())
        assert len(warnings) == len(said)
        for line, text in zip(warnings, said, strict=True):
            assert re.match(f'warning: {text}.* if one of them is killed', line)

    def test_a_first_process_that_does_not_answer_is_said_with_what_to_do(
        self, left: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def connect(seconds: float) -> dist.Store:
            if seconds == agreement.WAIT:  # as it begins
                return dist.HashStore()
            raise UserError('no answer')

        second = Processes(1, 2, connect)
        second.watch()
        assert second._ended.wait(60)
        second.finish()
        assert len(left) == 1
        assert left[0].startswith('error: the first process has gone without a word')
        assert '--resume goes on from the last checkpoint. (process 0 on ' in left[0]

    def test_alone(self) -> None:
        alone = Processes()
        assert alone.everywhere('n', lambda: 5) == [5]
        assert alone.first('n', lambda: 5) == 5
        assert alone.fail(1, 'error')[2:] == Failure(0, '', 1, 'error')[2:]
        alone.watch()
        alone.finish()
        assert processes_of('none').size == joined().size == 1

    def test_numbers(self) -> None:
        assert numbers([3]) == 'process 3'
        assert numbers(range(6)) == 'processes 0, 1, 2, 3 and 2 more'


class TestResume:
    def settled(self, tmp_path: Path, asked: list[str | None], **fields: Any) -> list[Any]:
        def act(processes: Processes) -> Any:
            # each node has a disk of its own, and the first has a checkpoint
            cfg = Config(dict(work_dir=str(tmp_path / f'node{processes.rank}'), **fields))
            settle_resume(cfg, asked[processes.rank], processes)
            return bool(cfg.get('resume')), cfg.get('load_from')

        return together(2, act)

    def test_the_first_chooses(self, tmp_path: Path) -> None:
        assert self.settled(tmp_path, ['auto', 'auto']) == [(False, None)] * 2
        for node, step in ((0, 4), (1, 6)):
            (tmp_path / f'node{node}').mkdir()
            torch.save({}, tmp_path / f'node{node}/iter_{step}.pth')
        chosen = [(True, f'{tmp_path}/node0/iter_4.pth')] * 2
        assert self.settled(tmp_path, ['auto', 'auto']) == chosen
        assert self.settled(tmp_path, ['auto', None]) == chosen
        assert self.settled(tmp_path, [None, None], resume=True) == chosen  # by --cfg-options
        other = f'{tmp_path}/node1/iter_6.pth'
        assert self.settled(tmp_path, [other, 'auto']) == [(True, other)] * 2
        assert self.settled(tmp_path, [None, None], load_from=other) == [(False, other)] * 2
        assert self.settled(tmp_path, [None, None]) == [(False, None)] * 2
        url = 'https://a.b/c.pth'
        assert self.settled(tmp_path, [None, None], load_from=url) == [(False, url)] * 2

    def test_a_missing_file_is_told_to_all(self, tmp_path: Path) -> None:
        first, second = self.settled(tmp_path, [f'{tmp_path}/a.pth', None])
        assert first == second
        assert '--resume' in first
        assert 'a.pth: no such file' in first
        for error in self.settled(tmp_path, [None, None], load_from=f'{tmp_path}/a.pth'):
            assert 'a.pth: this checkpoint cannot be read by processes 0, 1 of 2' in error


class TestSame:
    def test_differences_name_fact_value_and_processes(self) -> None:
        def act(processes: Processes) -> list[str]:
            facts = {'a': '1', 'b': str(processes.rank > 0), 'c': 'x' * 70}
            if processes.rank == 2:
                facts['d'] = '4'
            return differences(processes, 'facts', facts)

        first, *others = together(3, act)
        assert others == [first, first]
        assert len(first) == 2
        assert first[0].startswith('b: False on process 0 (')
        assert 'True on processes 1, 2 (' in first[0]
        assert first[1].startswith('d: absent on processes 0, 1 (')
        assert together(3, lambda p: differences(p, 'facts', {'a': '1'})) == [[]] * 3

    @pytest.mark.parametrize(
        ('change', 'expected'),
        [
            ({}, None),
            ({'work_dir': 'b', 'train.num_workers': 9, 'train.data_root': 'b'}, None),
            ({'model.file': '/scratch/2/x.pth', 'train.data_prefix.img': 'b'}, None),
            ({'model.depth': 3}, 'model.depth: 2 on process 0'),
            ({'hooks.checkpoint.interval': 2}, 'hooks.checkpoint.interval: 1 on process 0'),
            ({'new': None}, 'new: absent on process 0'),
            ({'kinds': {'c', 'a', 'b'}}, None),
        ],
    )
    def test_configs(
        self, change: dict[str, Any], expected: str | None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def act(processes: Processes) -> Any:
            cfg = Config(
                dict(
                    work_dir='a',
                    model=dict(depth=2, file='/scratch/1/x.pth', act=lambda x: x),
                    train=dict(num_workers=2, data_root='a', data_prefix=dict(img='a')),
                    hooks=dict(checkpoint=dict(interval=1)),
                    kinds={'b', 'a', 'c'},
                )
            )
            if processes.rank == 1:
                cfg.merge_from_dict(change)
            # the launcher's field carries the process to where it is asked for
            cfg._cfg_dict['launcher'] = processes.rank
            known[processes.rank] = processes
            return check_same_start(cfg)

        known: dict[int, Processes] = {}
        monkeypatch.setattr(same_run, 'processes_of', lambda rank: known[rank])
        monkeypatch.setitem(same_run.__dict__, '_OWN', same_run._OWN | {'launcher'})
        first, second = together(2, act)
        assert first == second
        if expected is None:
            assert first is None
        else:
            assert f'started differently: {expected}' in first

    @pytest.mark.parametrize('what', ['version of timm', 'code of moca'])
    def test_packages(self, what: str, monkeypatch: pytest.MonkeyPatch) -> None:
        versions = same_run._versions()
        assert versions['version of torch'] == torch.__version__
        assert {f'version of {name}' for name in ('timm', 'mmengine')} <= versions.keys()
        monkeypatch.setattr(
            same_run, '_versions', lambda: versions | {what: str(torch.rand(()).item())}
        )
        known: dict[int, Processes] = {}
        monkeypatch.setattr(same_run, 'processes_of', lambda rank: known[rank])

        def act(processes: Processes) -> Any:
            known[processes.rank] = processes
            return check_same_start(Config(dict(launcher=processes.rank)))

        for error in together(2, act):
            assert f'{what}: 0.' in error

    def test_devices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def act(processes: Processes) -> Any:
            everywhere = processes.everywhere
            processes.everywhere = (  # type: ignore[method-assign]
                lambda about, look: everywhere(about, lambda: processes.rank != 1)
            )
            return check_same_device(processes)

        for error in together(3, act):
            assert error.startswith('torch sees no GPU on process 1 of 3')
        assert together(2, check_same_device) == [None, None]


class TestDigests:
    def test_any_bit_of_any_kind_of_tensor_counts(self) -> None:
        generator = torch.Generator().manual_seed(0)
        for dtype in (torch.float32, torch.float64, torch.bfloat16, torch.int64, torch.uint8):
            value = (torch.rand(3, 5, generator=generator) * 100).to(dtype)
            before = digests({'a': value, 'b': value + 1})
            assert before == digests({'a': value.clone(), 'b': value + 1})
            assert before['a'] != before['b']
            assert digests({'a': value.T.contiguous().T}) == digests({'a': value})
            for row in range(3):
                changed = value.clone().contiguous()
                bits = changed.view(torch.uint8)
                bits[row, 0] ^= 1  # the lowest
                assert digests({'a': changed})['a'] != before['a']
        flags = torch.tensor([True, False])
        assert digests({'a': flags})['a'] != digests({'a': ~flags})['a']
        waves = torch.randn(4, dtype=torch.complex64, generator=generator)
        assert digests({'a': waves})['a'] != digests({'a': waves.conj().resolve_conj()})['a']
        assert digests({'a': torch.tensor(1.0), 'b': torch.zeros(0)})['b'] == 0

    def test_places_count_over_more_than_one_chunk(self, monkeypatch: pytest.MonkeyPatch) -> None:
        value = torch.arange(3 * same_run._CHUNK + 5)
        before = digests({'a': value})
        for one, other in ((0, 1), (7, 7 + same_run._CHUNK), (2, 3 * same_run._CHUNK + 1)):
            swapped = value.clone()
            swapped[[one, other]] = value[[other, one]]
            assert digests({'a': swapped}) != before

    def test_a_model_without_weights(self) -> None:
        assert digests(same_run.whole_tensors(nn.Identity())) == {}
