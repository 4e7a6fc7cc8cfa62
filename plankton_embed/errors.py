"""The errors this library raises on purpose; each message says what, where, expected, found, and what to do."""

from __future__ import annotations


class PlanktonEmbedError(Exception):
    """Any fault that the user can mend; the command line prints its message and exits with 1."""


class SettingError(PlanktonEmbedError, ValueError):
    """A setting or an argument is unknown or out of its range."""


class InputError(PlanktonEmbedError, ValueError):
    """Files, labels, vectors or tables are missing, unreadable or do not fit together."""


class MismatchError(InputError):
    """Two artefacts were made by different models; both hashes are named."""


class OutputError(PlanktonEmbedError, OSError):
    """The place to write to is taken or cannot be written."""


class DependencyError(PlanktonEmbedError, ImportError):
    """A needed library is missing or broken; the message holds the line that mends it."""
