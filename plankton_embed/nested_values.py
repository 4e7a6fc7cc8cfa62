"""Nested values under dotted names, such as `training.epochs`: read from YAML, parsed, merged and flattened."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from plankton_embed.errors import InputError, SettingError


def read_yaml(path: Path) -> dict[str, Any]:
    """Read the names and values of a YAML file."""
    try:
        values = yaml.safe_load(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise InputError(f"settings file {path} does not exist") from error
    except OSError as error:
        raise InputError(f"settings file {path} cannot be read: {error.strerror or error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"settings file {path} is not YAML: {error}") from error
    if values is None:
        return {}
    if not isinstance(values, dict):
        raise InputError(f"settings file {path}: expected names and values, found {type(values).__name__}")
    return values


def parse_overrides(overrides: Mapping[str, Any] | Iterable[str]) -> Iterable[tuple[str, Any]]:
    """Yield the names and values of a mapping, or of texts such as `training.epochs=20`, read as YAML."""
    if isinstance(overrides, Mapping):
        yield from overrides.items()
        return
    for text in overrides:
        name, equals, value = text.partition("=")
        if not equals:
            raise SettingError(f"--set: expected NAME=VALUE, such as training.epochs=20; found {text!r}")
        try:
            yield name.strip(), _read_number(yaml.safe_load(value))
        except yaml.YAMLError as error:
            raise SettingError(f"setting {name.strip()}: {value!r} is not YAML; put it in quotes") from error


def _read_number(value: Any) -> Any:
    """Return text such as 1e-3, which YAML does not read as a number, as a number."""
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return value
    return value


def merge(*parts: Mapping[str, Any]) -> dict[str, Any]:
    """Return nested dictionaries of all values, given under dotted names or nested; later ones win."""
    merged: dict[str, Any] = {}
    for part in parts:
        for name, value in part.items():
            _insert(merged, str(name), value)
    return merged


def _insert(values: dict[str, Any], name: str, value: Any) -> None:
    """Insert a value at its dotted name into nested dictionaries; a mapping is merged into its group."""
    *groups, last = name.split(".")
    for group in groups:
        inner = values.setdefault(group, {})
        if not isinstance(inner, dict):
            raise SettingError(f"setting {name}: {group} is a value, not a group")
        values = inner
    if not isinstance(value, Mapping):
        values[last] = value
        return
    inner = values.setdefault(last, {})
    if not isinstance(inner, dict):
        raise SettingError(f"setting {name}: expected a value, found the group {dict(value)!r}")
    for key, part in value.items():
        _insert(inner, str(key), part)


def flatten(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield nested values with their dotted names."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flatten(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
