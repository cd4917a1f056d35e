"""What a carrier has that will stop calls."""

from __future__ import annotations

from control.resources.notices import ProviderNotice, WithWarnings


def test_a_warning_is_for_programs_and_for_people() -> None:
    """A code, and words."""
    answer = WithWarnings.model_validate({"warnings": [{"code": "voice_url", "message": "Not ours"}]})
    assert answer.warnings == [ProviderNotice(code="voice_url", message="Not ours")]
