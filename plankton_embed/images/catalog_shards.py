"""A catalog in a folder of Parquet files, read a file at a time; and a catalog in parts of fixed size."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.dimension_columns import VECTOR_NAMES
from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.catalog_files import holds_numbers, keep_whole, to_frame
from plankton_embed.images.readers.faults import Faults
from plankton_embed.shards import Shards, digest_frames

IDENTITY = ("object_id", "path", "label", "sample_id", "pixel_size")  # what vectors are made from, beside the model
AT_ONCE = 2**17  # rows that are checked at a time
UNIQUE = ("object_id", "path", "ecotaxa_id")  # texts that most images have of their own
LEAST_PART, MOST_PART, N_PARTS = 500, 100_000, 100  # images of a part by default: a hundredth, within these


@dataclass(frozen=True)
class CatalogShards:
    """Parquet catalogs with the same columns; `root` is the folder where their relative paths start."""

    shards: Shards
    root: Path

    @classmethod
    def open(cls, folder: str | Path, root: str | Path | None = None) -> CatalogShards:
        """Open a folder; the ids of all files are checked.

        Raises:
            InputError: the files do not fit together, or an id occurs twice.
        """
        shards = Shards.open(folder)
        if root is not None and not Path(root).is_dir():
            raise InputError(f"root folder {root} does not exist")
        if "path" not in shards.schema.names:
            raise InputError(f"{folder}: expected a column named path; found {shards.schema.names}")
        if vectors := [field.name for field in shards.schema if field.type.num_fields and field.name in VECTOR_NAMES]:
            raise InputError(f"{folder}: expected catalogs of images; found vectors (column {vectors[0]})")
        if len(shards) == 0:
            raise InputError(f"{folder}: expected images; found none")
        shards.check_ids(("object_id", "path"), strip=True)
        return cls(shards, Path(folder if root is None else root))

    def read_file(self, number: int) -> ImageCatalog:
        """Return the catalog of one file."""
        return next(self._read(number, max(self.shards.counts[number], 1)))

    def _read(self, number: int, n_rows: int, faults: Faults | None = None) -> Iterator[ImageCatalog]:
        """Yield the catalogs of `n_rows` rows of a file."""
        shards, start = self.shards.of_file(number), 1
        for table in shards.read(n_rows):
            yield ImageCatalog.from_rows(
                to_frame(table),
                str(shards.files[0]),
                self.root,
                allow_empty=True,
                faults=faults,
                line_of=partial(operator.add, start),
            )
            start += len(table)

    def load(self, columns: Sequence[str] | None = None, faults: Faults | None = None) -> pd.DataFrame:
        """Return the rows of all files.

        Of `columns`, those that exist, in the types that need least memory: numbers as float64, repeated text as
        categories.
        """
        pieces: dict[Any, list[pd.Series]] = {}
        numbers: dict[str, NDArray[np.float64]] = {}  # filled in place: many small arrays would not be given back
        start = 0
        for number in range(len(self.shards.files)):
            for part in self._read(number, AT_ONCE, faults):
                frame, end = part.frame, start + len(part)
                for name in map(str, frame) if columns is None else [n for n in dict.fromkeys(columns) if n in frame]:
                    if columns is not None and holds_numbers(name):
                        column = numbers.setdefault(name, np.full(len(self.shards), np.nan))
                        column[start:end] = frame[name].to_numpy(dtype=np.float64, na_value=np.nan)
                        continue
                    is_repeated = columns is not None and name not in UNIQUE and frame[name].dtype == "str"
                    own = frame[name].astype("category") if is_repeated else frame[name].copy()  # without the others
                    pieces.setdefault(name, []).append(own)
                start = end
        joined = {name: _join(name, pieces.pop(name)) for name in list(pieces)}
        return pd.DataFrame({**joined, **{name: values[:start] for name, values in numbers.items()}}, copy=False)


def _join(name: str, pieces: Sequence[pd.Series]) -> pd.Series:
    """Concatenate the pieces of a column, with the type that one file of all rows would have."""
    kinds = [piece.dtype for piece in pieces]
    if all(isinstance(kind, pd.CategoricalDtype) for kind in kinds):
        return pd.Series(pd.api.types.union_categoricals([*pieces], sort_categories=True))
    if len(set(kinds)) > 1 and any(map(pd.api.types.is_float_dtype, kinds)):  # whole numbers in some files only
        numbers = [piece.to_numpy(dtype=np.float64, na_value=np.nan) for piece in pieces]
        joined = pd.Series(np.concatenate(numbers))
        return joined if holds_numbers(name) else keep_whole(joined)
    return pd.concat(pieces, ignore_index=True)


@dataclass(frozen=True)
class CatalogParts:
    """A catalog in parts of `part_size` images with stable numbers; a part does not continue in another file.

    `counts`: images of each file. `digest`: a hash of the ids, paths, labels, samples and pixel sizes.
    """

    counts: list[int]
    part_size: int
    digest: str
    read_file: Callable[[int], ImageCatalog]

    @classmethod
    def divide(cls, catalog: ImageCatalog | CatalogShards, part_size: int | None = None) -> CatalogParts:
        """Divide a catalog; by default a part has a hundredth of the images, at least 500 and at most 100,000.

        Raises:
            SettingError: the parts are smaller than one image.
        """
        if part_size is not None and part_size < 1:
            raise SettingError(f"part_size (--part-size): expected at least 1 image; found {part_size}")
        if isinstance(catalog, CatalogShards):
            counts, digest = catalog.shards.counts, catalog.shards.digest(IDENTITY)
            digest = digest_frames([pd.DataFrame({"digest": [digest, str(catalog.root.resolve())]})])
        else:
            frame = catalog.frame[[name for name in IDENTITY if name in catalog.frame]]
            counts, digest = [len(frame)], digest_frames([frame])
        size = part_size or min(max(sum(counts) // N_PARTS, LEAST_PART), MOST_PART)
        return cls(counts, size, digest, catalog.read_file if isinstance(catalog, CatalogShards) else lambda _: catalog)

    @property
    def n_images(self) -> int:
        """Images of all parts."""
        return sum(self.counts)

    @property
    def sizes(self) -> list[int]:
        """Images of each part."""
        return [min(self.part_size, n - start) for n in self.counts for start in range(0, n, self.part_size)]

    def read(self, numbers: Sequence[int]) -> Iterator[tuple[int, ImageCatalog]]:
        """Yield the parts with these numbers, in ascending order, each with its number; a file is read once."""
        wanted, first = set(numbers), 0
        for file, n in enumerate(self.counts):
            starts = range(0, n, self.part_size)
            own = [at for at in range(len(starts)) if first + at in wanted]
            if own:
                catalog = self.read_file(file)
                if len(catalog) != n:
                    raise InputError(f"{n - len(catalog)} of {n} rows of the catalog have no path; leave them out")
                for at in own:
                    rows = np.arange(starts[at], min(starts[at] + self.part_size, n))
                    yield first + at, catalog.select(rows)
            first += len(starts)
