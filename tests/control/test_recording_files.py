"""Recordings as files; what is written in them, and sealing anew, is in the tests of recordings."""

from __future__ import annotations

import io
import os
from pathlib import Path

import pytest

from control.recording_files import RecordingFiles, sealed_key
from control.vault import Tampered, Vault, VaultError

KEYS = Vault(bytes(32), entropy=os.urandom)


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    files = RecordingFiles(tmp_path / "none", KEYS)
    assert files.unfinished() == files.finished() == []
    assert not files.remove("c")


def test_what_is_written_and_what_is_whole_are_told_apart_and_go_together(tmp_path: Path) -> None:
    """A call's recorder may have died between the two."""
    files = RecordingFiles(tmp_path, KEYS)
    part, whole = files.paths("c")
    for path in (part, whole, tmp_path / "notes.txt"):
        path.touch()
    assert (files.unfinished(), files.finished()) == ([part], [whole])
    assert files.remove("c")
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_a_files_key_opens_for_its_own_head_alone() -> None:
    sealed = sealed_key(b"head", b"key", KEYS)
    assert KEYS.open(sealed, "recordings head") == b"key"
    with pytest.raises(Tampered):
        KEYS.open(sealed, "recordings another")


def test_without_a_vault_none_opens(tmp_path: Path) -> None:
    with pytest.raises(VaultError, match=r"secrets\.key"):
        RecordingFiles(tmp_path, None).reader(io.BytesIO(), None)  # type: ignore[arg-type]
