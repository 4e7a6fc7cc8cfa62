"""How objects are displayed: one line, and in a notebook a small table too, with thumbnails."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

N_ROWS = 10
SIDE = 64  # of thumbnails, px


class Shown:
    """Displays an object as one line, and in notebooks as a table of its first rows."""

    def _describe(self) -> str:
        """Return the text between the brackets of the line."""
        raise NotImplementedError

    def _preview(self) -> pd.DataFrame | None:
        """Return rows for a notebook; image files in a column `path` become thumbnails."""
        return None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._describe()})"

    def _repr_html_(self) -> str:
        line, rows = f"<p><code>{escape(repr(self))}</code></p>", self._preview()
        if rows is None or rows.empty:
            return line
        rows = rows.head(N_ROWS)
        shown = rows.astype(object).where(rows.notna(), "-").map(lambda value: escape(_to_text(value)))
        if "path" in rows:
            shown.insert(0, "", [_thumbnail(path) for path in rows["path"]])
            shown = shown.drop(columns="path")
        return line + shown.to_html(index=False, escape=False, border=0)


def _to_text(value: object) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _thumbnail(path: object) -> str:
    """Return an image as HTML; nothing if the path is not an image file that can be read."""
    from PIL import Image

    if not isinstance(path, str) or not Path(path).is_file():
        return ""
    try:
        with Image.open(path) as opened:
            image = opened.convert("RGB")
    except (OSError, ValueError, Image.DecompressionBombError):
        return ""
    image.thumbnail((SIDE, SIDE))
    written = io.BytesIO()
    image.save(written, "PNG")
    return f'<img src="data:image/png;base64,{base64.b64encode(written.getvalue()).decode()}" alt="">'
