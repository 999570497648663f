"""Metrics as tables show them: which way is better, in what unit, with how many digits."""

from __future__ import annotations

from collections.abc import Iterable

# Of mmseg's `DepthMetric`, in small letters.
_ERRORS = frozenset({'rmse', 'abs_rel', 'sq_rel', 'rmse_log', 'log10', 'silog'})

LOWER_IS_BETTER = _ERRORS | {'mce', 'loss'}
"""Metrics of which the smaller value is the better one, in small letters: errors of depth,
ImageNet-C's mean corruption error, and losses."""

_IN_METERS = frozenset({'rmse'})


def lower_is_better(metric: str) -> bool:
    """Whether the smaller of two values of a metric is the better one."""
    return _base_name(metric) in LOWER_IS_BETTER


def best_value(metric: str, values: Iterable[float]) -> float:
    """Return the best of some values of a metric; raises ValueError where there are none."""
    return min(values) if lower_is_better(metric) else max(values)


def in_percent(metric: str) -> bool:
    """Whether a metric is a share, which tables show in percent: all that are no error or loss."""
    return _base_name(metric) not in _ERRORS | {'loss'}


def value_text(metric: str, value: float) -> str:
    """Return a value with one digit behind the point in percent, and with three otherwise."""
    return f'{value:.1f}' if in_percent(metric) else f'{value:.3f}'


def metric_heading(metric: str) -> str:
    """Return a metric's name, its unit where it is not percent, an arrow where lower is better.

    Example:
        >>> metric_heading('rmse')
        'rmse (m) ↓'
    """
    unit = ' (m)' if _base_name(metric) in _IN_METERS else ''
    return metric + unit + (' ↓' if lower_is_better(metric) else '')


def _base_name(metric: str) -> str:
    """The name without what says of which validation it is: `rmse_best` is an RMSE."""
    return metric.lower().removesuffix('_best').removesuffix('_last')
