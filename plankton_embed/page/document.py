"""The page as one HTML text: the data of all parts, the scripts that draw them, the style; no request to anywhere."""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from plankton_embed import __version__
from plankton_embed.errors import needs_extra
from plankton_embed.page.images import PageImages
from plankton_embed.page.map import bokeh_scripts
from plankton_embed.table import EmbeddingTable

FOLDER = Path(__file__).parent
SCRIPTS = (
    "core", "store", "grid", "picker", "overview", "map", "confusion", "tree", "relations", "suspects", "groups",
    "queue", "counts", "live", "start",
)  # fmt: skip
EXTRA = "report"
MANY_IDS = 10_000  # above which ids are compressed, to about a tenth
NEVER_IN_HTML = str.maketrans({c: f"\\u{ord(c):04x}" for c in "<>&\u2028\u2029"})  # as JSON writes any character


def build_document(
    images: PageImages,
    parts: Mapping[str, Mapping[str, Any] | None],
    *,
    title: str,
    thumbnails: Mapping[str, Any] | None = None,
    live: Mapping[str, Any] | None = None,
) -> str:
    """Return the page as HTML.

    Args:
        images: the images; every row that a part refers to is a row of these.
        parts: the data of each part by its name; None: there is nothing to show, and no tab.
        title: the title of the page.
        thumbnails: pictures (see `pack_thumbnails`); None: none.
        live: for the page of a server: `token`, the secret part of its address; None: the page is a file.

    Raises:
        DependencyError: jinja2 or bokeh is not installed.
    """
    with needs_extra("a page", EXTRA):
        from jinja2 import Environment
    shown = {name: part for name, part in parts.items() if part is not None}
    described = describe_images(images)
    if len(images) > MANY_IDS:
        described["images"]["id"] = _compress(described["images"]["id"])
    data = {
        "title": title,
        "version": __version__,
        "key": images.key,
        "live": None if live is None else dict(live),
        "classes": images.classes,
        **described,
        "thumbs": None if thumbnails is None else dict(thumbnails),
        "parts": shown,
    }
    scripts = bokeh_scripts() if "map" in shown else []
    scripts.append("\n".join(read_script(name) for name in SCRIPTS))
    template = Environment(autoescape=True).from_string((FOLDER / "template.html").read_text(encoding="utf-8"))
    return template.render(
        title=title,
        style=(FOLDER / "page.css").read_text(encoding="utf-8"),
        data=write_data(data),
        scripts=scripts,
        policy=_write_policy(scripts, live is not None),
    )


def describe_images(images: PageImages) -> dict[str, Any]:
    """Return what the page knows of every image, one value a row, and the names of splits and samples."""
    table = images.table
    splits, split = np.unique(images.split.astype(str), return_inverse=True)
    samples, sample = _index_samples(table)
    return {
        "splits": splits.tolist(),
        "samples": samples,
        "images": {
            "n": len(images),
            "id": table.object_id.tolist(),
            "label": images.label_index,
            **describe_guesses(images.guess, images.distance, images.second, images.margin),
            "split": split.astype(np.uint8),
            "sample": sample,
            "known": images.reference,
        },
    }


def describe_guesses(guess: Any, distance: Any, second: Any, margin: Any) -> dict[str, Any]:
    """Return guesses (see `Guesses.predict`) under the names that the page uses."""
    return {
        "guess": guess,
        "second": second,
        "distance": np.asarray(distance, dtype=np.float32),
        "margin": np.asarray(margin, dtype=np.float32),
    }


def write_data(values: Any) -> str:
    """Return values as JSON that is safe inside HTML: no text of it can end the script element it is in."""
    return write_json_text(values).translate(NEVER_IN_HTML)


def write_json_text(values: Any) -> str:
    """Return values as compact JSON: arrays as `encode` writes them, nan and infinity as null."""
    return json.dumps(encode(values), ensure_ascii=False, allow_nan=False, separators=(",", ":"))


def encode(values: Any) -> Any:
    """Return plain values for JSON; an array becomes its type and its bytes in base64, which `PE.decode` reads.

    Whole numbers are written in as few bytes as they need; the page reads them as 32 bits. Other numbers are written as
    32-bit floats. Arrays of text become lists.
    """
    if isinstance(values, np.ndarray):
        return _encode_array(values)
    if isinstance(values, Mapping):
        return {str(name): encode(value) for name, value in values.items()}
    if isinstance(values, list | tuple):
        return [encode(value) for value in values]
    if isinstance(values, np.generic):
        return encode(values.item())
    if isinstance(values, float) and not math.isfinite(values):
        return None
    return values


def read_script(name: str) -> str:
    """Return a script of the page; empty text if it does not exist."""
    path = FOLDER / "js" / f"{name}.js"
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def _encode_array(values: np.ndarray[Any, Any]) -> Any:
    if values.dtype.kind in "OUST":
        return encode(values.tolist())
    if values.dtype.kind == "f":
        values = values.astype("<f4")
    elif values.dtype.kind == "b":
        values = values.astype(np.uint8)
    elif values.dtype != np.uint8:
        low, high = (int(values.min()), int(values.max())) if values.size else (0, 0)
        fits = next(kind for kind in ("<i1", "<i2", "<i4") if np.iinfo(kind).min <= low and high <= np.iinfo(kind).max)
        values = values.astype(fits)
    name = values.dtype.name
    return {"dtype": name, "base64": base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()}


def _compress(texts: list[str]) -> dict[str, str]:
    """Return texts as their compressed JSON, in base64."""
    return {"gzip": base64.b64encode(gzip.compress(write_json_text(texts).encode(), mtime=0)).decode()}


def _index_samples(table: EmbeddingTable) -> tuple[list[str], np.ndarray[Any, Any]]:
    """Return the names of the samples and the index of each image's, -1 where there is none."""
    names = sorted({name for name in table.sample_id if name is not None})
    codes = {name: code for code, name in enumerate(names)}
    return names, np.array([codes.get(name, -1) for name in table.sample_id], dtype=np.int32)


def _write_policy(scripts: list[str], live: bool) -> str:
    """Return the page's Content-Security-Policy: only its own scripts run, and nothing is loaded from a host.

    BokehJS compiles what it draws (WebGL), which `unsafe-eval` allows it; text of the data is never compiled.
    """
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = [f"'sha256-{text}'" for text in hashes] + ["'unsafe-eval'"] * (len(scripts) > 1)
    sources = {
        "default-src": "'none'",
        "script-src": " ".join(allowed),
        "style-src": "'unsafe-inline'",
        "img-src": "data: blob:" + (" 'self'" if live else ""),
        "font-src": "data:",
        "connect-src": "'self'" if live else "'none'",
        "base-uri": "'none'",
        "form-action": "'none'",
    }
    return "; ".join(f"{name} {value}" for name, value in sources.items())
