"""The control API's listening socket. Whoever opens it need not be the process that serves it."""

from __future__ import annotations

import os
import socket

__all__ = ["ListenError", "listen", "url_of"]


class ListenError(Exception):
    """The address cannot be listened on; the message is for people."""

    def __init__(self, host: str, port: int, error: OSError) -> None:
        reason = os.strerror(error.errno) if error.errno else str(error)
        super().__init__(f"api.listen: cannot listen on {_endpoint(host, port)}: {reason}")
        self.host = host
        self.port = port


def listen(text: str) -> socket.socket:
    """At ``text``, an address literal and a port; 0 lets the system choose. Raises :class:`ListenError`."""
    host, _, port = text.rpartition(":")
    return _bind(host.strip("[]"), int(port))


def url_of(listener: socket.socket) -> str:
    """``http://127.0.0.1:8080``, with the port that was bound."""
    host, port = listener.getsockname()[:2]
    return f"http://{_endpoint(host, port)}"


def _endpoint(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind(host: str, port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen()
    except OSError as error:
        listener.close()
        raise ListenError(host, port, error) from error
    return listener
