"""What is no number of the kind that a field needs is refused under the field's name."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import pytest

from moca.engine.ranges import (
    check_count,
    check_each,
    check_number,
    check_positive,
    check_share,
    check_switch,
    check_weight,
)
from moca.errors import UserError

NONE_OF = {
    check_number: ('1', None, True, math.nan, math.inf, [1]),
    check_weight: ('1', False, -0.1, math.nan),
    check_positive: ('1', True, 0, -1, math.inf),
    check_count: ('1', None, True, 0, -1, 1.0, 1.5, [1]),
    check_share: ('.5', True, 1, -0.1),
    check_switch: ('no', 0, 1, None, [True]),
}
CASES = [(check, value) for check, values in NONE_OF.items() for value in values]


@pytest.mark.parametrize(('check', 'value'), CASES)
def test_what_is_none_is_refused(check: Callable[[Any, str], Any], value: Any) -> None:
    with pytest.raises(UserError, match=r'^evaluation\.x=.*: give .*\.$'):
        check(value, 'evaluation.x')


def test_what_is_one_is_given_back() -> None:
    assert check_number(-1.5, 'x') == -1.5
    assert (check_weight(0, 'x'), check_positive(0.1, 'x'), check_share(0, 'x')) == (0, 0.1, 0)
    assert (check_count(3, 'x'), check_count(0, 'x', lowest=0)) == (3, 0)
    assert check_switch(False, 'x') is False


@pytest.mark.parametrize('values', [10, '10', None, [], [10.5], ['10'], {10: 1}])
def test_a_list_is_a_list_of_such(values: Any) -> None:
    with pytest.raises(UserError, match=r'^k=.*: give a '):
        check_each(values, 'k', check_count)


def test_lists_and_tuples_may_be_empty_where_that_is_said() -> None:
    assert check_each([10, 20], 'k', check_count) == (10, 20)
    assert check_each((), 'k', check_count, least=0) == ()
