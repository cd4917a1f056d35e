"""``truedy-edge`` without its imports: a process that has done them, and forks an edge for each test.

An edge costs a test a second to start, two thirds of it imports. What runs is the same: a process of its own with its
own session, arguments, environment and output. Tests of the command itself start it in the ordinary way.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

__all__ = ["Forked", "Zygote"]

_DESCRIPTORS = 2
_LONGEST = 256 * 1024


class _Output:
    """A pipe's reading end, closed once all of it has been read."""

    def __init__(self, descriptor: int) -> None:
        self._file = os.fdopen(descriptor, "rb", buffering=0)
        self._reader = asyncio.StreamReader()
        self._transport: asyncio.BaseTransport | None = None

    async def open(self) -> None:
        self._transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(self._reader), self._file
        )

    async def read(self, count: int) -> bytes:
        """As of :class:`asyncio.StreamReader`."""
        data = await self._reader.read(count)
        if not data and self._transport is not None:
            self._transport.close()
        return data


class Forked:
    """One edge: what tests use of :class:`asyncio.subprocess.Process`."""

    stdin = None

    def __init__(self, pid: int, stdout: _Output, status: _Output) -> None:
        self.pid = pid
        self.stdout = stdout
        self.returncode: int | None = None
        self._ended = asyncio.create_task(self._await_end(status), name=f"the end of {pid}")

    async def _await_end(self, status: _Output) -> None:
        code = b""
        while part := await status.read(16):
            code += part
        self.returncode = int(code or b"-9")

    async def wait(self) -> int | None:
        """Its exit code."""
        await asyncio.shield(self._ended)
        return self.returncode

    def send_signal(self, number: int) -> None:
        """To it alone."""
        os.kill(self.pid, number)


class Zygote:
    """The process that forks. Next: :meth:`fork`; :meth:`close`."""

    def __init__(self) -> None:
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", __name__, str(theirs.fileno())]
            self._process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), start_new_session=True)
        self._socket.recv(16)  # it has imported

    async def fork(self, *arguments: str, cwd: Path | None, environment: Mapping[str, str]) -> Forked:
        """``truedy-edge ARGUMENTS``."""
        readers = []
        writers = []
        for _ in range(_DESCRIPTORS):
            ours, theirs = os.pipe()
            readers.append(_Output(ours))
            writers.append(theirs)
            await readers[-1].open()
        request = json.dumps({"arguments": arguments, "cwd": str(cwd or Path.cwd()), "environment": dict(environment)})
        try:
            socket.send_fds(self._socket, [request.encode()], writers)
        finally:
            for each in writers:
                os.close(each)
        return Forked(int(self._socket.recv(16)), *readers)

    def close(self) -> None:
        """Edges that still run are not touched."""
        self._socket.close()
        self._process.wait()


# --- in the process that forks ----------------------------------------------------------------------


def _serve(control: socket.socket) -> None:
    children: dict[int, int] = {}  # the pid, and where its status goes

    def reap(*_: Any) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                status = children.pop(ended[0])
                os.write(status, str(os.waitstatus_to_exitcode(ended[1])).encode())
                os.close(status)

    signal.signal(signal.SIGCHLD, reap)
    control.send(b"ready")
    while True:
        data, descriptors, _, _ = socket.recv_fds(control, _LONGEST, _DESCRIPTORS)
        if not data:
            return
        output, status = descriptors
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGCHLD,))
        if (pid := os.fork()) == 0:
            control.close()
            for other in (*children.values(), status):
                os.close(other)
            _become(json.loads(data), output)
        children[pid] = status
        os.close(output)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        control.send(str(pid).encode())


def _become(request: dict[str, Any], output: int) -> None:
    """An edge, and never return."""
    code = 70
    try:
        os.setsid()
        nothing = os.open(os.devnull, os.O_RDONLY)
        for number, source in ((0, nothing), (1, output), (2, output)):
            os.dup2(source, number)
        os.close(nothing)
        os.close(output)
        os.chdir(request["cwd"])
        os.environ.clear()
        os.environ.update(request["environment"])
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, (signal.SIGCHLD,))
        sys.argv = ["truedy-edge", *request["arguments"]]
        code = import_module("control.cli").main()
    except SystemExit as left:
        code = left.code if isinstance(left.code, int) else 1
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    for module in ("control.cli", "control.main"):
        import_module(module)
    _serve(socket.socket(fileno=int(sys.argv[1])))
