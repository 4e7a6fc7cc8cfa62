"""The errors this library raises on purpose; each message says what, where, expected, found, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PlanktonEmbedError(Exception):
    """Any fault that the user can fix; the command line prints its message and exits with 1."""


class SettingError(PlanktonEmbedError, ValueError):
    """A setting or an argument is unknown or out of its range."""


class InputError(PlanktonEmbedError, ValueError):
    """Files, labels, vectors or tables are missing, unreadable or do not fit together."""


class MismatchError(InputError):
    """Two artefacts were made by different models; both hashes are named."""


class OutputError(PlanktonEmbedError, OSError):
    """The place to write to is taken or cannot be written."""


class DependencyError(PlanktonEmbedError, ImportError):
    """A needed library is missing or broken; the message holds the line that fixes it."""


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Import libraries of an extra inside; where one is missing, the error says how to install them."""
    try:
        yield
    except ImportError as error:
        raise DependencyError(f"{what} needs the extra {extra}: pip install 'plankton_embed[{extra}]'") from error
