"""Log lines as JSON."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Iterator

import pytest

from control.logs import set_up


@pytest.fixture
def stream() -> Iterator[io.StringIO]:
    root = logging.getLogger()
    before = (root.handlers[:], root.level)
    stream = io.StringIO()
    set_up(stream=stream)
    yield stream
    root.handlers[:], level = before[0], before[1]
    root.setLevel(level)


def test_hostile_text_stays_on_its_line(stream: io.StringIO) -> None:
    logging.getLogger("truedy.test").info("call ended", extra={"to": 'x\r\n{"level":"forged"}\u2028\x1b[31m'})
    written = stream.getvalue()
    assert written.count("\n") == 1
    assert written.isascii()
    assert "\x1b" not in written
    assert json.loads(written)["to"].startswith("x\r\n")


def test_secrets_are_never_written(stream: io.StringIO) -> None:
    key = "truedy_" + "a" * 43
    logging.getLogger("truedy.test").info("key %s", key, extra={"password": "hunter2", "auth_token": "t0k3n"})
    assert key not in stream.getvalue()
    assert "hunter2" not in stream.getvalue()
    assert "t0k3n" not in stream.getvalue()


def test_an_exception_is_part_of_its_line(stream: io.StringIO) -> None:
    try:
        raise ValueError("no such thing")
    except ValueError:
        logging.getLogger("truedy.test").exception("failed")
    line = json.loads(stream.getvalue())
    assert line["event"] == "failed"
    assert "ValueError: no such thing" in line["exception"]
    assert line["level"] == "error"
