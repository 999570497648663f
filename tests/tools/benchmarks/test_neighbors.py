"""The benchmark of exact neighbors: both ways find the same."""

from __future__ import annotations

import pytest

from moca.errors import UserError
from tools.benchmarks.__main__ import main, parse_args
from tools.benchmarks.neighbors import measure_neighbors


def test_both_ways_find_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    words = ['neighbors', '--rows', '1500', '--queries', '40', '--width', '8', '--device', 'cpu']
    assert main(words) == 0
    printed = capsys.readouterr().out
    assert '40 queries in 1,500 rows of 8, k 20, cpu' in printed
    assert 'similarities equal' in printed


def test_more_neighbors_than_rows_are_refused() -> None:
    args = parse_args(['neighbors', '--rows', '3'])
    with pytest.raises(UserError, match='k up to rows'):
        measure_neighbors(args.rows, 4, 8, args.k, 'cpu')
