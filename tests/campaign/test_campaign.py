"""The campaign itself: attacks work where nothing guards, and it fails where a guard is gone."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest

from tests.campaign import hostile
from tests.campaign.__main__ import AREAS, main
from tests.campaign.campaign import Area, Outcome, faults, run_area, table
from tests.campaign.page import BEGIN, END

UNGUARDED = """
import os, pickle, signal, sys
from tests.campaign import hostile
from pathlib import Path
for place, name in enumerate(sorted(hostile.attacks(Path('x')))):
    canary = Path(sys.argv[1], str(place))
    body = hostile.attacks(canary)[name]
    if os.fork() == 0:
        os.close(1), os.close(2), signal.alarm(2)
        try:
            pickle.loads(b'\\x80\\x02' + body + b'.')
        finally:
            os._exit(0)
    os.wait()
"""


def test_attacks_run_code_where_pickle_reads_them(tmp_path: Path) -> None:
    attacks = hostile.attacks(Path('x'))
    assert len(attacks) >= 30
    assert [name for name, body in attacks.items() if not hostile.is_pickle(body)] == []
    command = [sys.executable, '-c', UNGUARDED, str(tmp_path)]
    subprocess.run(command, check=True, timeout=300, stdin=subprocess.DEVNULL)
    # the others need what this test does not give: a terminal, an extension, torch's own opcodes
    assert len(list(tmp_path.iterdir())) >= 20


class Small(Area):
    """Cases that end in every way."""

    name, title = 'small', 'Small'

    def count(self, quick: bool) -> int:
        return 3 if quick else 5

    def run(self, number: int, folder: Path) -> Outcome:
        (folder / 'file').touch()
        if number == 1:
            raise ValueError('not promised')
        if number == 2:
            sys.stdout.flush()
            import os

            os._exit(7)
        if number == 4:
            time.sleep(60)
        return Outcome('fine', 'refused')


def test_every_end_is_told_and_a_campaign_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / 'small.jsonl'
    first = run_area(Small(0), tmp_path, quick=True)
    assert [outcome.result for outcome in first] == ['refused', 'traceback', 'died']
    assert 'not promised' in first[1].detail
    assert [number for number, _ in faults(first)] == [1, 2]
    log.write_text(log.read_text() + '{"number": 3, "ki')  # killed while it wrote
    monkeypatch.setattr(Small, 'seconds', 2.0)
    outcomes = run_area(Small(0), tmp_path, quick=False)
    assert [o.result for o in outcomes] == ['refused', 'traceback', 'died', 'refused', 'hang']
    assert sum('"number": 0' in line for line in log.read_text().splitlines()) == 1
    assert '| **all** | 5 | 2 |' in table(Small(0), outcomes)
    assert not (tmp_path / 'small_scratch').exists()
    (tmp_path / 'small.code').write_text('of another day')
    log.write_text(json.dumps(dict(asdict(outcomes[0]), number=1)))
    assert run_area(Small(0), tmp_path, quick=True)[1].result == 'traceback'


def test_the_page_has_what_is_known_and_keeps_the_rest(tmp_path: Path) -> None:
    page, folder = tmp_path / 'page.md', tmp_path / 'seed3'
    folder.mkdir()
    rows = '| area |\n|---|\n| numbers, seed 0 | 1 |\n| others, seed 0 | 2 |\n'
    page.write_text(f'before\n{BEGIN}\n{rows}{END}\nbehind\n')
    cases = [Outcome('a', 'refused'), Outcome('a', 'refused'), Outcome('b', 'hang')]
    lines = [dict(asdict(case), number=n, seconds=40.2) for n, case in enumerate(cases)]
    (folder / 'others.jsonl').write_text('\n'.join(map(json.dumps, lines)))
    assert main(['--page', str(page), '--seed', '3', '--work-dir', str(tmp_path)]) == 0
    found = page.read_text().splitlines()
    assert found[0] == 'before'
    assert found[-1] == 'behind'
    assert found[4:6] == [
        '| numbers, seed 0 | 1 |',
        '| others, seed 3 | 3 | 2 |  |  |  | 1 | 0:02:01 |',
    ]


def test_every_case_ends_as_promised(tmp_path: Path) -> None:
    assert main(['--quick', '--seed', '1', '--work-dir', str(tmp_path)]) == 0


@pytest.mark.slow
@pytest.mark.parametrize('area', AREAS)
def test_it_fails_where_a_guard_is_gone(area: str, tmp_path: Path) -> None:
    assert main([area, '--quick', '--inject', '--work-dir', str(tmp_path)]) == 1
    lines = (tmp_path / 'injected0' / f'{area}.jsonl').read_text().splitlines()
    noticed = {'silent', 'traceback', 'hang', 'unreadable'}
    assert {json.loads(line)['result'] for line in lines} & noticed
