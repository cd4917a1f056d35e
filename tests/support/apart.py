"""Both sides of the pipe between the control API and what carries calls, joined in memory."""

from __future__ import annotations

import asyncio
from pathlib import Path

from control.apart.answering import Answerer
from control.apart.asking import Asker, remote
from control.apart.messages import Answer, Refused, decode_from_calls
from control.carrying import Carrying
from control.recording_files import RecordingFiles

__all__ = ["joined"]


def joined(carrying: Carrying, files: RecordingFiles | None = None) -> Carrying:
    """The way to ``carrying``: what is asked of it crosses both codecs."""

    def back(data: bytes) -> None:
        message = decode_from_calls(data)
        assert isinstance(message, Answer | Refused)
        asker.receive(message)

    answerer = Answerer(
        carrying, back, spawn=lambda work, name: asyncio.create_task(work, name=name), serving=print, broken=print
    )
    asker = Asker(answerer.receive)
    return remote(asker, files or RecordingFiles(Path("none"), None), asker.tell)
