"""What is wrong with the settings, one readable line each."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Path", "Problem", "SettingsError", "key_of"]

Path = tuple[str | int, ...]
"""Where a value stands: ``("trunks", 1, "auth")``."""


def key_of(path: Path) -> str:
    """As people write it: ``trunks[1].auth``."""
    text = ""
    for part in path:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong. ``message`` never holds a secret's value."""

    path: Path
    message: str

    @property
    def key(self) -> str:
        """The setting's name."""
        return key_of(self.path)


class SettingsError(Exception):
    """The settings cannot be used. Its text is one line a problem; ``keys`` are the settings named."""

    def __init__(self, lines: Iterable[str], keys: Iterable[str] = ()) -> None:
        self.lines = tuple(lines)
        self.keys = tuple(keys)
        super().__init__("\n".join(self.lines))
