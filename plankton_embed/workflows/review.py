"""`review`: look at images and correct them in a browser; every decision is saved at once."""

from __future__ import annotations

import logging
import shlex
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from plankton_embed.errors import InputError, SettingError
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.containers import image_exists
from plankton_embed.images.readers.source import read_source
from plankton_embed.notebook import Shown
from plankton_embed.page.document import build_document
from plankton_embed.page.images import PageImages
from plankton_embed.page.journal import Journal
from plankton_embed.page.queue import PageQueue
from plankton_embed.page.server import serve
from plankton_embed.page.session import Session
from plankton_embed.run_folder import RunFolder
from plankton_embed.workflows.inputs import Reference, as_run, find_path
from plankton_embed.workflows.page_parts import gather_page, list_parts, title_page
from plankton_embed.workflows.result_folder import SUMMARY_FILE

SLOW = ("suspects", "map", "queue", "groups")  # parts that take seconds: the page opens before them, in this order
MOST_PARTS = 3  # of a path, by which a moved picture is found
N_CHECKED = 200  # images whose files are looked for at the start

logger = logging.getLogger(__name__)


@dataclass(frozen=True, repr=False)
class Review(Shown):
    """What a review has left: the journal, the decisions in it that are not undone, and commands that take it."""

    journal: str
    n_decisions: int
    next_steps: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return asdict(self)

    def _describe(self) -> str:
        return f"{self.n_decisions:,} decisions in {self.journal}"

    def _preview(self) -> pd.DataFrame:
        return pd.DataFrame({"next": list(self.next_steps)})


def review(
    vectors: Reference,
    *,
    images: ImageCatalog | str | Path | None = None,
    groups: str | Path | None = None,
    journal: str | Path | None = None,
    port: int = 0,
    open_browser: bool = True,
    progress: bool = True,
) -> Review:
    """Show the page of `report` from a server on this machine, and save every decision at once; Ctrl-C ends it.

    A decision (keep, relabel, delete, the name of a group, undo) is a line of the journal, and is on the disk before
    the page shows it as done. Relabelled and kept images are enrolled at once, and all guesses follow. The page is at
    an address with a secret part, for this machine alone. Start it again to go on.

    Args:
        vectors: the folder of a run, a file of vectors, or a table.
        images: where the pictures are, if the paths in the vectors are not right any more: a folder, a catalog, or any
            source. Images are matched by `object_id`, else by the name of their file.
        groups: a folder that `clusters` wrote; by default `analysis/clusters` of the run.
        journal: the file of decisions; by default `review/journal.jsonl` of the run, or `<vectors>_journal.jsonl`
            beside a file of vectors.
        port: where to listen on 127.0.0.1; 0: any free port.
        open_browser: open the page in the browser.
        progress: show a bar.

    Returns:
        The number of decisions, the journal, and the commands that take it: `apply-corrections`, `enroll`.

    Raises:
        InputError: there are no vectors, or the journal is damaged or about other vectors.
        OutputError: another review has the journal open, or the port is taken.
        DependencyError: the extra `review` is not installed.
    """
    path = _find_journal(vectors) if journal is None else Path(journal)
    page = gather_page(vectors)
    if images is not None:
        page = _find_pictures(page, images)
    _warn_of_missing(page)
    opened = Journal(path, page.key, str(find_path(vectors) or ""))
    try:
        session = Session(page, opened)
        builders = list_parts(page, vectors, groups=groups)
        builders["queue"] = lambda: _attach_queue(session)
        empty = {"queue", "groups"} if page.table.is_labelled.all() else set()  # no tab for nothing: built at once
        later = [name for name in SLOW if name in builders and name not in empty]
        parts: dict[str, dict[str, Any] | None] = {
            name: {"pending": True} if name in later else build() for name, build in builders.items()
        }

        def build_page(token: str) -> str:
            live = {"token": token, "pending": later}
            return build_document(page, parts, title=title_page(vectors), live=live)

        pool = ThreadPoolExecutor(max_workers=1)
        try:
            futures = {name: pool.submit(builders[name]) for name in later}
            serve(session, build_page, parts=futures, port=port, open_browser=open_browser)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
        return Review(str(path), session.n_decisions, _list_next(vectors, path) if session.n_decisions else ())
    finally:
        opened.close()


def _attach_queue(session: Session) -> dict[str, Any] | None:
    """Return the images to label next, which follow decisions from now on; None if every image has a label."""
    return None if session.images.table.is_labelled.all() else session.attach_queue(PageQueue(session.images))


def _find_journal(vectors: Reference) -> Path:
    """Return where the journal is by default: in a run, or beside a file of vectors.

    Never in a folder that a command replaces as a whole (`vectors/` of a run, the folder of an analysis).
    """
    path = find_path(vectors)
    if path is None:
        raise SettingError("journal: vectors that are not in a file need the path of a journal; give one (journal=)")
    run = as_run(vectors)
    if run is not None:
        return run.path / "review" / "journal.jsonl"
    above = next((folder for folder in path.absolute().parents if RunFolder(folder).settings.is_file()), None)
    if above is not None:
        inside = path.absolute().relative_to(above).with_suffix("")
        return above / "review" / f"{'_'.join(inside.parts)}_journal.jsonl"
    if (path.parent / SUMMARY_FILE).is_file():
        return path.absolute().parent.with_name(f"{path.absolute().parent.name}_{path.stem}_journal.jsonl")
    return path.with_name(f"{path.stem}_journal.jsonl")


def _find_pictures(page: PageImages, source: ImageCatalog | str | Path) -> PageImages:
    """Return the images with the paths that a source has for them.

    Raises:
        InputError: the source has none of the images.
    """
    catalog = read_source(source)
    new = pd.Series(catalog.paths, index=catalog.frame["object_id"].astype(str).tolist(), dtype=object)
    found: NDArray[np.object_] = new.reindex(page.table.object_id).to_numpy()
    other = np.full(len(page), None, dtype=object)
    for n_parts in range(1, MOST_PARTS + 1):  # names of files recur: then those of their folders too
        ends = [_end(path, n_parts) for path in catalog.paths]
        by_end = pd.Series(catalog.paths, index=ends, dtype=object)
        by_end = by_end[~by_end.index.duplicated(keep=False)]
        sought = pd.Series([None if path is None else _end(path, n_parts) for path in page.table.path], dtype=object)
        same = by_end.reindex(sought.mask(sought.duplicated(keep=False)).tolist()).to_numpy()  # one each
        other = np.where(pd.isna(other), same, other)
    other[np.isin(other.astype(str), found[pd.notna(found)].astype(str))] = None  # those of other images
    paths = np.where(pd.notna(found), found, np.where(pd.notna(other), other, page.table.path))
    n_found = int((pd.notna(found) | pd.notna(other)).sum())
    if not n_found:
        where = "the catalog" if isinstance(source, ImageCatalog) else source
        raise InputError(
            f"images: {where} has none of the {len(page)} images, by object_id or by the name of the file and "
            f"its folders, such as {page.table.object_id[0]}; give the folder or catalog that they were embedded from"
        )
    if n_found < len(page):
        logger.warning("images: %d of %d images were not found there", len(page) - n_found, len(page))
    return replace(page, table=replace(page.table, path=paths))


def _end(path: str, n_parts: int) -> str:
    """Return the last parts of a path."""
    return "/".join(Path(path).parts[-n_parts:])


def _warn_of_missing(page: PageImages) -> None:
    rows = np.unique(np.linspace(0, len(page) - 1, min(len(page), N_CHECKED)).astype(int))
    missing = [row for row in rows if page.table.path[row] is None or not image_exists(page.table.path[row])]
    if missing:
        path = page.table.path[missing[0]]
        logger.warning(
            "the pictures of %d of %d images that were checked are missing, such as %s; the page shows grey squares; "
            "give their folder or catalog (--images SOURCE)",
            *(len(missing), len(rows), path or f"that of {page.table.object_id[missing[0]]}, which has no path"),
        )


def _list_next(vectors: Reference, journal: Path) -> tuple[str, ...]:
    """Return commands that take the journal."""
    run, quoted = as_run(vectors), shlex.quote(str(journal))
    catalog = "CATALOG" if run is None else shlex.quote(str(run.catalog))
    path = find_path(vectors)
    reference = "REFERENCE" if path is None else shlex.quote(str(path))
    return (
        f"plankton-embed apply-corrections {catalog} {quoted} -o corrected.csv",
        f"plankton-embed enroll {reference} {quoted} -o reference.parquet",
    )
