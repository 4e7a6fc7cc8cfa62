"""Toy images for the comparison nets."""

import numpy as np
import pytest
from PIL import Image, ImageDraw


@pytest.fixture
def draw_shapes():
    """Return a function that draws n grey images of disc, ring, cross and bar, dark on light, slightly shifted."""

    def draw(n, height, width=None, seed=0):
        width, rng = width or height, np.random.default_rng(seed)
        images, names = np.empty((n, height, width), dtype=np.uint8), np.array(["bar", "cross", "disc", "ring"])
        codes = np.arange(n) % 4
        for number, code in enumerate(codes):
            picture = Image.new("L", (width, height), 220)
            pen = ImageDraw.Draw(picture)
            x, y = width / 2 + rng.uniform(-1.5, 1.5), height / 2 + rng.uniform(-1.5, 1.5)
            r, w = min(width, height) * rng.uniform(0.28, 0.36), max(2, min(width, height) // 10)
            if names[code] in ("disc", "ring"):
                pen.ellipse((x - r, y - r, x + r, y + r), 60 if names[code] == "disc" else None, 60, w)
            else:
                pen.line((x - r, y, x + r, y), 60, w)
                if names[code] == "cross":
                    pen.line((x, y - r, x, y + r), 60, w)
            images[number] = np.clip(np.asarray(picture) + rng.normal(0, 6, (height, width)), 0, 255)
        return images, names[codes]

    return draw
