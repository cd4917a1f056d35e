"""The HTTP side: FastAPI over :class:`control.operations.Operations`, and nothing of the call path."""
