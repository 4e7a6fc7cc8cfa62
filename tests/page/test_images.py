"""The images of a page: splits, the reference of guesses, and the guesses themselves, beside those of scikit-learn."""

import numpy as np
import pytest
from sklearn.neighbors import NearestCentroid

from plankton_embed.errors import InputError, MismatchError
from plankton_embed.page.images import gather_images
from plankton_embed.table import EmbeddingTable


def make_table(vectors, labels, ids=None, model="a"):
    labels = np.array(labels, dtype=object)
    return EmbeddingTable(np.array(vectors, dtype=np.float32), ids, labels, provenance={"model_hash": model})


def test_a_run_predicts_from_train_and_a_file_from_all_labelled_images(small_tables, small_images):
    assert small_images.split.tolist() == [name for name, part in small_tables.items() for _ in range(len(part))]
    assert small_images.reference.sum() == len(small_tables["train"])
    assert (small_images.label_index < 0).sum() == 12
    of_file = gather_images({"": small_tables["test"]})
    assert of_file.reference.tolist() == small_tables["test"].is_labelled.tolist()
    assert set(of_file.split) == {""}


def test_new_images_get_the_class_with_the_nearest_mean(small_tables, small_images):
    train = small_tables["train"]
    other = NearestCentroid().fit(train.vectors, train.label.astype(str)).predict(small_images.table.vectors)
    new = ~small_images.reference
    assert np.array(small_images.classes)[small_images.guess][new].tolist() == other[new].tolist()


def test_an_image_of_the_reference_is_left_out_of_its_own_mean():
    images = gather_images({"": make_table([[0, 0], [0, 2], [5, 0], [5, 2]], ["a", "a", "b", "b"])})
    assert images.guess.tolist() == [0, 0, 1, 1]
    assert images.distance.tolist() == [2, 2, 2, 2]  # to the only other image of the class
    assert np.allclose(images.margin, np.hypot(5, 1) - 2)


def test_without_labels_there_are_no_guesses():
    images = gather_images({"": make_table([[0, 0], [1, 0]], [None, None])})
    assert images.guess.tolist() == [-1, -1] and images.second.tolist() == [-1, -1]
    assert np.isnan(images.distance).all() and images.classes == []


def test_one_class_has_no_second_guess():
    images = gather_images({"": make_table([[0, 0], [1, 0]], ["a", "a"])})
    assert images.guess.tolist() == [0, 0] and images.second.tolist() == [-1, -1]


def test_the_key_is_that_of_ids_vectors_labels_and_model():
    first = make_table([[0, 0]], ["a"], ["x"])
    assert gather_images({"": first}).key == gather_images({"": make_table([[0, 0]], ["a"], ["x"])}).key
    for other in (
        make_table([[0, 0]], ["b"], ["x"]),  # decisions were applied: they do not come back
        make_table([[0, 0]], ["a"], ["y"]),
        make_table([[0, 0]], ["a"], ["x"], "b"),
        make_table([[0, 1]], ["a"], ["x"]),
    ):
        assert gather_images({"": first}).key != gather_images({"": other}).key


def test_images_that_do_not_fit_together_are_refused():
    with pytest.raises(InputError, match="at least one image"):
        gather_images({"train": make_table(np.zeros((0, 2)), [])})
    with pytest.raises(InputError, match="object_id x is in 2 rows"):
        gather_images({"train": make_table([[0, 0]], ["a"], ["x"]), "test": make_table([[0, 0]], ["a"], ["x"])})
    with pytest.raises(MismatchError):
        gather_images({"train": make_table([[0, 0]], ["a"], ["x"]), "test": make_table([[0, 0]], ["a"], ["y"], "b")})
    with pytest.raises(InputError, match="expected text that can be written as UTF-8"):
        gather_images({"": make_table([[0, 0]], ["a"], ["x\udcff"])})
