"""Composition: calls, registry, HTTP API, command line. May import :mod:`edge`, :mod:`media` and :mod:`config`."""
