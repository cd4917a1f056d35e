"""The guard of ``tests/conftest.py`` fails a test for each kind of thing left behind, and only then."""

from __future__ import annotations

from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

LEAKS = {
    "a task": (
        """
        import asyncio

        KEPT = []

        async def test_it():
            KEPT.append(asyncio.ensure_future(asyncio.Event().wait()))
        """,
        "*task Task-* is still running: *Event.wait*",
    ),
    "a file descriptor": (
        """
        import os

        async def test_it():
            os.open("/proc/version", os.O_RDONLY)
        """,
        "*descriptor * (/proc/version) is still open",
    ),
    "a UDP port of the loop": (
        """
        import asyncio

        KEPT = []

        async def test_it():
            loop = asyncio.get_running_loop()
            KEPT.append(await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0)))
        """,
        "*port udp 127.0.0.1:* (descriptor *) is still open",
    ),
    "a listening TCP port over IPv6, without a loop": (
        """
        import socket

        import pytest

        KEPT = []

        @pytest.mark.realtime
        def test_it():
            KEPT.append(socket.create_server(("::1", 0), family=socket.AF_INET6))
        """,
        "*port tcp6 ::1:* (descriptor *) is still open",
    ),
    "a child process": (
        """
        import subprocess

        import pytest

        KEPT = []

        @pytest.mark.realtime
        def test_it():
            KEPT.append(subprocess.Popen(["sleep", "5"]))
        """,
        "*child process * is still there: sleep 5",
    ),
}

CLEAN = """
import asyncio
import socket

import pytest

async def test_everything_is_given_back():
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(asyncio.DatagramProtocol, ("127.0.0.1", 0))
    server = await asyncio.start_server(lambda r, w: w.close(), "127.0.0.1", 0)
    reader, writer = await asyncio.open_connection(*server.sockets[0].getsockname())
    await reader.read()
    writer.close()
    server.close()
    transport.close()

@pytest.fixture(scope="module")
def shared_port():
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as kept:
        kept.bind(("127.0.0.1", 0))
        yield kept

@pytest.mark.realtime
def test_what_a_wider_fixture_holds_is_not_this_tests_doing(shared_port):
    assert shared_port.getsockname()[1]
"""


@pytest.fixture
def project(pytester: pytest.Pytester) -> pytest.Pytester:
    """A project whose conftest is ours."""
    pytester.makeconftest(
        "from tests import conftest\n"
        "from tests.conftest import *\n"
        "from tests.conftest import _coroutine_leaves_nothing\n"
        "conftest.SETTLE_S = 0.1\n"
    )
    pytester.makeini(
        "[pytest]\nasyncio_mode = auto\nasyncio_default_fixture_loop_scope = function\n"
        f"pythonpath = {ROOT}\nmarkers =\n  realtime\n  uvloop\nfilterwarnings = error\n"
    )
    return pytester


@pytest.mark.parametrize("kind", LEAKS)
def test_a_test_that_leaves_something_behind_fails(project: pytest.Pytester, kind: str) -> None:
    code, message = LEAKS[kind]
    project.makepyfile(code)
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:schemathesis")
    result.stdout.fnmatch_lines([message])
    result.assert_outcomes(passed=1, errors=1)


def test_a_test_that_gives_everything_back_passes(project: pytest.Pytester) -> None:
    project.makepyfile(CLEAN)
    result = project.runpytest_subprocess("-p", "no:cacheprovider", "-p", "no:xdist", "-p", "no:schemathesis")
    result.assert_outcomes(passed=2)
