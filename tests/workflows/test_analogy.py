"""`analogy`: a is to b as c is to which class, for a table, its file and a run."""

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed.errors import InputError
from plankton_embed.workflows.analogy import analogy

CORNERS = {"nauplius": (0, 0), "copepod": (0, 3), "zoea": (4, 0), "crab": (4, 3), "diatom": (-9, 9)}


@pytest.fixture(scope="module")
def corners():
    """Images around the corners of a rectangle, and of one class far from it."""
    vectors = np.repeat(np.array(list(CORNERS.values()), dtype=float), 8, axis=0)
    vectors += np.random.default_rng(0).normal(scale=0.1, size=vectors.shape)
    return pe.EmbeddingTable(vectors, label=np.repeat(list(CORNERS), 8))


def test_the_fourth_corner_answers(corners, tmp_path):
    classes, images = analogy(corners, "nauplius", "copepod", "zoea", 5)
    assert classes["label"].iloc[0] == "crab"
    place = corners.vectors[8:16].mean(axis=0) - corners.vectors[:8].mean(axis=0) + corners.vectors[16:24].mean(axis=0)
    distances = np.linalg.norm(corners.vectors - place, axis=1)
    assert images["object_id"].tolist() == corners.object_id[np.argsort(distances)[:5]].tolist()
    np.testing.assert_allclose(images["distance"], np.sort(distances)[:5], rtol=1e-4)
    from_file = analogy(corners.save(tmp_path / "v.parquet"), "nauplius", "copepod", "zoea", 5)
    for found, again in zip((classes, images), from_file, strict=True):
        pd.testing.assert_frame_equal(found, again)


def test_a_run_uses_its_test_vectors_unless_another_split_is_given(run_of_three, known, asked):
    three = asked.classes[:3]
    for split, expected in ((None, asked), ("train", known)):
        _, images = analogy(run_of_three.path, *three, split=split)
        assert set(images["object_id"]) <= set(expected.object_id)


def test_what_is_neither_class_nor_image_is_refused(corners):
    with pytest.raises(InputError, match="whale is neither"):
        analogy(corners, "nauplius", "copepod", "whale")
