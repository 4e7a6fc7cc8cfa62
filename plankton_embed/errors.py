"""The errors of this library; each message contains what, where, expected, found, and what to do."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager


class PlanktonEmbedError(Exception):
    """An error that the user can fix; the command line prints its message and exits with 1."""


class SettingError(PlanktonEmbedError, ValueError):
    """A setting or an argument is unknown or out of its range."""


class InputError(PlanktonEmbedError, ValueError):
    """Files, labels, vectors or tables are missing, unreadable or do not fit together."""


class MismatchError(InputError):
    """Two artefacts were made by different models; the message contains both hashes."""


class OutputError(PlanktonEmbedError, OSError):
    """The output exists already or cannot be written."""


class DependencyError(PlanktonEmbedError, ImportError):
    """A needed library is missing or broken; the message contains the command that fixes it."""


@contextmanager
def needs_extra(what: str, extra: str) -> Iterator[None]:
    """Import libraries of an extra in this context; if one is missing, the error contains how to install the extra."""
    try:
        yield
    except ImportError as error:
        raise DependencyError(f"{what} needs the extra {extra}: pip install 'plankton_embed[{extra}]'") from error
