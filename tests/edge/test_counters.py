"""edge.counters: bounded counts and bounded log lines."""

from __future__ import annotations

import logging

import pytest

from edge.counters import OTHER, Counters, SourceLog, printable


def test_counts_add_up_by_label_whatever_their_order() -> None:
    counters = Counters()
    counters.add("dropped", source="192.0.2.1", reason="unlisted")
    counters.add("dropped", reason="unlisted", source="192.0.2.1")
    counters.add("dropped", 3, source="192.0.2.2", reason="unlisted")
    assert counters.snapshot() == {
        "dropped": {
            (("reason", "unlisted"), ("source", "192.0.2.1")): 2,
            (("reason", "unlisted"), ("source", "192.0.2.2")): 3,
        }
    }
    assert counters.get("dropped", reason="unlisted") == 5
    assert counters.get("dropped", source="192.0.2.1") == 2
    assert counters.get("dropped", source="192.0.2.3") == 0


def test_a_label_beyond_its_cap_counts_as_other_and_the_sum_stays_right() -> None:
    counters = Counters(max_values=10)
    for number in range(10_000):
        counters.add("dropped", source=f"forged-{number}", reason="unlisted")
    counters.add("dropped", source="forged-3", reason="unlisted")
    assert len(counters.snapshot()["dropped"]) == 11
    assert counters.get("dropped") == 10_001
    assert counters.get("dropped", source=OTHER) == 9_990
    assert counters.get("dropped", source="forged-3") == 2


def test_the_caps_of_two_counters_are_apart() -> None:
    counters = Counters(max_values=1)
    counters.add("dropped", source="a")
    counters.add("refused", source="b")
    assert counters.get("refused", source="b") == 1


def test_a_snapshot_is_a_copy() -> None:
    counters = Counters()
    counters.add("calls")
    before = counters.snapshot()
    counters.add("calls")
    assert before == {"calls": {(): 1}}


def test_label_values_from_the_wire_are_escaped_and_cut() -> None:
    counters = Counters()
    counters.add("dropped", source="evil\r\nHTTP/1.1 200" + "x" * 1000)
    ((labels, _),) = counters.snapshot()["dropped"].items()
    assert labels[0][1].startswith(r"evil\r\nHTTP/1.1 200")
    assert len(labels[0][1]) < 160


@pytest.mark.parametrize(
    ("hostile", "shown"),
    [
        ("plain +14155550100", "plain +14155550100"),
        ("Zoë 電話", "Zoë 電話"),
        ("a\r\nb\tc", r"a\r\nb\tc"),
        ("\x00\x1b[31m\x7f\x9b", r"\x00\x1b[31m\x7f\x9b"),
        ("line\u2028break", r"line\u2028break"),
        ("\u202egpj.exe", r"\u202egpj.exe"),
        ("\ud800", r"\ud800"),
    ],
)
def test_hostile_text_becomes_one_harmless_line(hostile: str, shown: str) -> None:
    assert printable(hostile) == shown


def test_long_text_is_cut() -> None:
    assert printable("x" * 300, limit=10) == "xxxxxxxxxx…"


def test_a_source_is_logged_once_a_second_with_the_number_left_out(caplog: pytest.LogCaptureFixture) -> None:
    """At most one line a second a source, however fast it sends."""
    log = SourceLog(logging.getLogger("edge.test"))
    with caplog.at_level(logging.INFO, "edge.test"):
        written = [log.write(logging.INFO, "dropped", "192.0.2.1", tick / 500) for tick in range(1001)]
    assert written.count(True) == 3
    assert [getattr(record, "sip_left_out", 0) for record in caplog.records] == [0, 499, 499]
    assert log.suppressed == 998


def test_two_sources_are_logged_apart(caplog: pytest.LogCaptureFixture) -> None:
    log = SourceLog(logging.getLogger("edge.test"))
    with caplog.at_level(logging.INFO, "edge.test"):
        assert log.write(logging.INFO, "dropped", "192.0.2.1", 0.0)
        assert log.write(logging.INFO, "dropped", "192.0.2.2", 0.0)


def test_forged_sources_cannot_fill_the_log(caplog: pytest.LogCaptureFixture) -> None:
    log = SourceLog(logging.getLogger("edge.test"), max_sources=5)
    with caplog.at_level(logging.INFO, "edge.test"):
        for number in range(5000):
            log.write(logging.INFO, "dropped", f"forged-{number}", number / 5000)
        assert len(caplog.records) == 5
        assert log.write(logging.INFO, "dropped", "192.0.2.1", 1.0)
    assert log.suppressed == 4995


def test_hostile_fields_reach_the_record_escaped(caplog: pytest.LogCaptureFixture) -> None:
    """No raw control characters in a log line, nor in its structured fields."""
    log = SourceLog(logging.getLogger("edge.test"))
    with caplog.at_level(logging.INFO, "edge.test"):
        log.write(logging.WARNING, "refused", "192.0.2.1", 0.0, user="a\r\nroot: fake", status=407)
    (record,) = caplog.records
    assert record.getMessage() == r"refused user=a\r\nroot: fake status=407 source=192.0.2.1"
    assert record.__dict__["sip_user"] == r"a\r\nroot: fake"
    assert record.__dict__["sip_status"] == 407
