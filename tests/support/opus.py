"""Tests that need libopus are skipped, visibly, where it is not installed."""

from __future__ import annotations

import pytest

from media.codecs import opus

__all__ = ["needs_opus"]

needs_opus = pytest.mark.skipif(not opus.available(), reason="not installed: libopus0")
