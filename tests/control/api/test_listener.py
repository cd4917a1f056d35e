"""The socket that the control API is served on."""

from __future__ import annotations

import errno
import os
import socket

import pytest

from control.api.listener import ListenError, listen, url_of


@pytest.mark.realtime
def test_the_address_is_that_of_the_port_that_was_bound() -> None:
    """IPv6 in brackets (RFC 3986 §3.2.2); a client is let in before anybody serves."""
    for host in ("127.0.0.1", "[::1]"):
        with listen(f"{host}:0") as listener:
            port = listener.getsockname()[1]
            assert url_of(listener) == f"http://{host}:{port}"
            socket.create_connection((host.strip("[]"), port), timeout=5).close()


@pytest.mark.realtime
def test_a_port_in_use_is_one_readable_error() -> None:
    """It names the setting, the address and the reason; nothing is left open."""
    with listen("127.0.0.1:0") as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ListenError) as refusal:
            listen(f"127.0.0.1:{port}")
    reason = os.strerror(errno.EADDRINUSE)
    assert str(refusal.value) == f"api.listen: cannot listen on 127.0.0.1:{port}: {reason}"
