"""What is asked of calls."""

from __future__ import annotations

import pytest

from control.errors import ValidationFailed
from control.resources.call_control import CallSettings


def test_spans_are_seconds_with_an_s() -> None:
    """They come as numbers."""
    settings = CallSettings.of(max_duration="90s", join_timeout="7.5s")
    assert (settings.max_duration_s, settings.join_timeout_s) == (90.0, 7.5)
    assert CallSettings.of().join_timeout_s is None


@pytest.mark.parametrize(
    ("field", "span", "said"),
    [
        ("max_duration", "0.9s", "less than 1s"),
        ("max_duration", "90", 'such as "30s"'),
        ("max_duration", "10 minutes", 'such as "30s"'),
        ("join_timeout", "4s", "5"),
        ("join_timeout", "121s", "120"),
    ],
)
def test_a_span_out_of_bounds_is_refused(field: str, span: str, said: str) -> None:
    """And the field named, with what it wants."""
    with pytest.raises(ValidationFailed) as refusal:
        CallSettings.of(**{field: span})
    (problem,) = refusal.value.problems
    assert problem.field == field
    assert said in problem.problem
