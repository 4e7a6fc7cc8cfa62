"""Finds the columns of a table that are the dimensions of vectors, by their names."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable

from plankton_embed.errors import InputError

VECTOR_NAMES = ("vector", "vectors", "embedding", "embeddings", "emb", "latent")  # of a column of lists
DIMENSION_NAMES = (*VECTOR_NAMES, "v", "e", "dim", "d", "")  # of the columns v0, v1, …


def find_families(names: Iterable[str]) -> dict[str, list[str]]:
    """Group names that are one word followed by the numbers 0, 1, … or 1, 2, …, in this order, by the word.

    Raises:
        InputError: a number of one of DIMENSION_NAMES is missing.
    """
    numbered = defaultdict[str, dict[int, str]](dict)
    for name in names:
        if found := re.fullmatch(r"(.*?)(\d+)", name):
            numbered[found[1]][int(found[2])] = name
    families = {}
    for word, by_number in numbered.items():
        numbers = sorted(by_number)
        first, last = min(numbers[0], 1), numbers[-1]
        if numbers == list(range(first, last + 1)) and (is_dimension_name(word) or len(numbers) > 1):
            families[word] = [by_number[number] for number in numbers]
        elif word and is_dimension_name(word) and len(numbers) > 1:
            lost = next(number for number in range(first, last) if number not in by_number)
            raise InputError(f"expected a column for every dimension up to {word}{last}; found no {word}{lost}")
    return families


def is_dimension_name(word: str) -> bool:
    """Return whether a word, without its number, is one of DIMENSION_NAMES."""
    return word.rstrip("_-. ").lower() in DIMENSION_NAMES


def find_dimensions(names: Iterable[str]) -> list[str]:
    """Return the columns of the dimensions, in order; none if it is not clear which they are."""
    names = list(names)
    families = find_families(names)
    named = [family for word, family in families.items() if is_dimension_name(word)]
    if len(named) == 1 or len(names) == 1:
        return named[0] if named else list(filter(is_dimension_name, names))
    return next((family for family in families.values() if len(family) > len(names) / 2 and not named), [])
