"""The campaign itself: attacks work where nothing guards, and it fails where a guard is gone."""

from __future__ import annotations

import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.campaign import campaign, hostile
from tests.campaign.__main__ import AREAS, main
from tests.campaign.campaign import (
    Outcome,
    Worker,
    code_digest,
    faults,
    outcome_of,
    queued,
    read_outcomes,
    reset_peak,
    run_area,
    table,
    unproven,
)
from tests.campaign.ends import Ends, More, end_at_once, say_nothing
from tests.campaign.page import BEGIN, END, write_table
from tests.processes import run_processes


def test_attacks_run_code_where_pickle_reads_them(tmp_path: Path) -> None:
    attacks = hostile.attacks(Path('x'))
    assert [name for name, body in attacks.items() if not hostile.is_pickle(body)] == []
    run_processes(hostile.read_all, (str(tmp_path),), 1)
    worked = {name for name in attacks if hostile.has_run(hostile.canary_of(name, tmp_path))}
    assert set(attacks) - worked == set(hostile.HARMLESS)


def test_every_end_is_told_and_a_campaign_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log, code = tmp_path / 'ends.jsonl', tmp_path / 'ends.code'
    first = run_area(Ends(0), tmp_path, quick=True)
    assert [outcome.result for outcome in first] == ['refused', 'traceback', 'died']
    assert 'not promised' in first[1].detail
    assert [number for number, _ in faults(first)] == [1, 2]
    log.write_text(log.read_text() + '{"number": 3, "ki')  # killed while it wrote
    monkeypatch.setattr(Ends, 'seconds', 1.0)
    outcomes = run_area(Ends(0), tmp_path, quick=False)
    assert [o.result for o in outcomes] == ['refused', 'traceback', 'died', 'refused', 'hang']
    assert sum('"number": 0' in line for line in log.read_text().splitlines()) == 1
    assert sum('"number": 3' in line for line in log.read_text().splitlines()) == 2
    assert [number for number, *_ in read_outcomes(log)] == [0, 1, 2, 3, 4]
    assert '| **all** | 5 | 2 |' in table(Ends(0), outcomes)
    assert not [*tmp_path.glob('ends_scratch*')]
    code.write_text('of another day')
    log.write_text(json.dumps(dict(asdict(outcomes[0]), number=1)))
    assert run_area(Ends(0), tmp_path, quick=True)[1].result == 'traceback'


def test_a_process_that_does_not_come_to_be_is_no_hang_of_the_campaign(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    worker = Worker(tmp_path / 'scratch')
    monkeypatch.setattr(campaign, '_work', end_at_once)
    assert [worker.run(Ends(0), 0).result for _ in range(2)] == ['died', 'died']
    monkeypatch.setattr(campaign, '_work', say_nothing)
    monkeypatch.setattr(campaign, 'STARTING', 0.5)
    assert worker.run(Ends(0), 0).result == 'hang'
    worker.end()
    assert not (tmp_path / 'scratch').exists()


def test_waiting_for_a_processor_is_no_hang(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert 0 < queued(os.getpid()) < time.monotonic()
    monkeypatch.setattr(Ends, 'seconds', 0.2)
    worker = Worker(tmp_path / 'scratch')
    assert worker.run(Ends(0), 7).result == 'hang'
    monkeypatch.setattr(campaign, 'queued', lambda process: time.monotonic())
    assert worker.run(Ends(0), 7).result == 'refused'
    worker.end()


def test_a_case_is_held_to_its_own_memory_and_not_to_that_of_a_larger_one(tmp_path: Path) -> None:
    assert reset_peak(), 'Linux can'
    # of its own, since this one may keep what other tests have freed (`keep_freed_memory`)
    worker = Worker(tmp_path / 'scratch')
    for number, least in ((5, 390), (6, 190)):  # the second after the first
        outcome = worker.run(Ends(0), number)
        assert outcome.result == 'memory'
        assert least < int(outcome.detail.split()[0]) < least + 60
    assert worker.run(Ends(0), 0).result == 'refused'
    assert list((tmp_path / 'scratch').iterdir()) == []
    worker.end()


def test_the_command_tells_what_is_not_promised(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr('tests.campaign.__main__.AREAS', {'ends': Ends, 'more': More})
    folder = ['--work-dir', str(tmp_path)]
    assert main(['ends', '--case', '0', *folder]) == 0
    assert 'ends_case/0' in capsys.readouterr().out
    assert main(['--quick', *folder]) == 1  # both areas at once
    said = capsys.readouterr().out
    assert said.index('case 1: ?: traceback: ') < said.index('case 2: ?: died: ')
    assert [said.count(text) for text in ('## Ends', '## More', 'case 1: ', 'case 2: ')] == [
        1,
        1,
        2,
        2,
    ]
    assert {path.name for path in tmp_path.iterdir()} == {'seed0', 'ends_case'}


def test_outcomes_hold_for_all_that_a_case_is_made_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(campaign, '_ROOT', tmp_path)
    digests = []
    for name in ('requirements/lock.txt', 'moca/a.py', 'configs/b/c.py', 'tests/d/helpers.py'):
        for text in ('', 'x = 1'):
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
            digests.append(code_digest.__wrapped__())
    assert len(set(digests)) == len(digests)
    (tmp_path / 'moca/a.pyc').touch()
    assert code_digest.__wrapped__() == digests[-1]


def test_the_page_has_what_is_known_and_keeps_the_rest(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    page, folder, code = tmp_path / 'page.md', tmp_path / 'seed3', code_digest()[:8]
    folder.mkdir()
    rows = (
        '| area |\n|---|\n| numbers, seed 0 | 1 |\n| others, seed 0 | 2 |\n'
        f'| later, seed 0 | 3 |  |  |  |  | 0 | 9 | {code} |\n'
    )
    page.write_text(f'before\n{BEGIN}\n{rows}{END}\nbehind\n')
    skipped = Outcome('b', 'skipped', 'not allowed here')
    assert faults([skipped]) == []
    cases = [Outcome('a', 'refused'), Outcome('a', 'refused'), Outcome('b', 'hang'), skipped]
    lines = [dict(asdict(case), number=n, seconds=30.2) for n, case in enumerate(cases)]
    for name in ('others', 'numbers'):
        (folder / f'{name}.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    (folder / 'others.code').write_text(code_digest())
    (folder / 'numbers.code').write_text('of another day')
    assert main(['--page', str(page), '--seed', '3', '--work-dir', str(tmp_path)]) == 1
    assert 'numbers: left out, its outcomes are of other code' in capsys.readouterr().out
    found = page.read_text().splitlines()
    assert found[0] == 'before'
    assert found[-1] == 'behind'
    assert found[4:7] == [
        '| numbers, seed 0 | 1 |  |  |  |  |  |  | unknown, earlier |',
        f'| others, seed 3 | 4 of 300, 1 skipped | 2 |  |  |  | 1 | 0:02:01 | {code} |',
        f'| later, seed 0 | 3 |  |  |  |  | 0 | 9 | {code} |',
    ]
    monkeypatch.setattr('tests.campaign.page.code_digest', lambda: 'another')
    for _ in range(2):
        write_table(page, folder, {}, seed=3)
        assert page.read_text().splitlines()[6] == (
            f'| later, seed 0 | 3 |  |  |  |  | 0 | 9 | {code}, earlier |'
        )


def test_a_fault_is_proven_by_its_own_kind_and_result_alone() -> None:
    area = AREAS['checkpoints'](0)
    ours, wrong = Outcome('zeros, ours', 'silent'), Outcome('zeros, torch', 'traceback')
    campaigns = Outcome('?', 'silent')  # of a case that broke before it had a kind
    assert unproven(area, [ours, wrong, campaigns]) == ['.*, torch: silent']
    assert unproven(area, [ours, Outcome('a bit anywhere, torch', 'silent')]) == []


@pytest.fixture(scope='module')
def scratch(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where kills and disks find the runs to which nothing happens, made once."""
    return tmp_path_factory.mktemp('cases')


@pytest.mark.parametrize('name', AREAS)
def test_every_case_ends_as_promised(name: str, scratch: Path) -> None:
    """In this process, which has imported what the cases need."""
    area = AREAS[name](seed=1)
    cases = range(area.count(quick=True))
    outcomes = [outcome_of(area, number, scratch / f'{name}{number}') for number in cases]
    assert faults(outcomes) == []


@pytest.mark.slow
@pytest.mark.parametrize('area', AREAS)
def test_it_fails_where_a_guard_is_gone(area: str, tmp_path: Path) -> None:
    assert main([area, '--quick', '--inject', '--work-dir', str(tmp_path)]) == 1
    rows = list(read_outcomes(tmp_path / f'injected0/{area}.jsonl'))
    assert unproven(AREAS[area](0), [outcome for _, outcome, _ in rows]) == []
