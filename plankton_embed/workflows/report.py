"""`report`: one self-contained page of a run or of vectors, to look at and to correct."""

from __future__ import annotations

import logging
from pathlib import Path

from plankton_embed.output import refuse_overwrite, write_atomically
from plankton_embed.page.document import build_document
from plankton_embed.page.images import PageImages
from plankton_embed.page.thumbnails import pack_thumbnails
from plankton_embed.workflows.inputs import Reference
from plankton_embed.workflows.page_parts import build_parts, gather_page, title_page

logger = logging.getLogger(__name__)


def report(
    vectors: Reference,
    output: str | Path,
    *,
    images: bool = True,
    groups: str | Path | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> Path:
    """Write one self-contained page (HTML) of a run or of vectors; it opens in any browser and loads nothing.

    The page shows scores, a map, the confusion of classes, their tree, suspect labels and groups. Decisions that are
    made in it (keep, relabel, delete, the name of a group) are kept by the browser, and downloaded as
    `corrections.csv` and `cluster_names.csv`.

    Args:
        vectors: the folder of a run, a file of vectors, or a table. Of a run, the page also shows what its folder
            `analysis` contains: `relations`, `clusters`, `abundance`, `shift`, maps of `pca`.
        output: the page, `.html`.
        images: put pictures into the page (20 MB at most); without them it is small.
        groups: a folder that `clusters` wrote; by default `analysis/clusters` of the run.
        overwrite: replace the output.
        progress: show a bar.

    Raises:
        InputError: there are no vectors.
        DependencyError: the extra `report` is not installed.
    """
    path = refuse_overwrite(output, overwrite, (".html",))
    return write_page(gather_page(vectors), vectors, path, pictures=images, groups=groups, progress=progress)


def write_page(
    page: PageImages,
    vectors: Reference,
    path: Path,
    *,
    pictures: bool = True,
    groups: str | Path | None = None,
    progress: bool = True,
) -> Path:
    """Write the page of images that are in memory; arguments as of `report`, and `page`, the images of `vectors`."""
    thumbnails = pack_thumbnails(page.table.path, progress=progress) if pictures else None
    parts = build_parts(page, vectors, groups=groups)
    text = build_document(page, parts, title=title_page(vectors), thumbnails=thumbnails)
    with write_atomically(path) as temporary:
        temporary.write_text(text, encoding="utf-8")
    logger.info("report: %s (%.1f MB)", path, len(text) / 1e6)
    return path
