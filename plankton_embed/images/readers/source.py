"""Which reader a source needs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.folder import read_folder

CATALOG_SUFFIXES = (".csv", ".tsv", ".txt", ".parquet")


def read_source(
    source: ImageCatalog | str | Path | Sequence[str | Path], root: str | Path | None = None
) -> ImageCatalog:
    """Return the catalog of a folder of images, a CSV or Parquet catalog, or a list of image files.

    Args:
        source: a catalog is returned as it is.
        root: where the relative paths of a catalog file start; by default the folder of that file.

    Raises:
        InputError: the source is missing or of no known kind.
        SettingError: `root` is given where it has no meaning.
    """
    if isinstance(source, ImageCatalog):
        return source
    is_file = isinstance(source, str | Path) and Path(source).suffix.lower() in CATALOG_SUFFIXES
    if root is not None and not is_file:
        raise SettingError("root: it goes with a catalog file (CSV or Parquet); the source is not one")
    if not isinstance(source, str | Path):
        return ImageCatalog.from_rows({"path": [str(path) for path in source]}, "list of images")
    path = Path(source)
    if is_file:
        return ImageCatalog.load(path, root)
    if path.is_dir():
        return read_folder(path)
    if path.is_file():
        raise InputError(f"{path}: expected a folder of images, or a catalog ({', '.join(CATALOG_SUFFIXES)})")
    raise InputError(f"{path} does not exist")
