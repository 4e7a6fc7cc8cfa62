"""The record of the epochs: which was best, and a table that comes back unchanged."""

import math
from dataclasses import asdict, replace

import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from plankton_embed.errors import InputError
from plankton_embed.training.history import EpochRecord, History

numbers, counts = st.floats(0, 1e3) | st.just(math.nan), st.integers(0, 1000)
COUNTS = ("n_never_predicted", "n_empty_steps", "n_broken_steps")
NAN = math.nan


def record(epoch, centroid=NAN, knn=NAN):
    return EpochRecord(epoch, 0.1, 0.2, 1e-3, centroid, knn)


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.lists(st.tuples(*[numbers] * 9, *[counts] * 3, *[numbers] * 2), max_size=5))
def test_a_history_comes_back_unchanged(tmp_path, rows):
    history = History([EpochRecord(epoch, *row) for epoch, row in enumerate(rows, 1)])
    history.save(tmp_path / "history.csv")
    loaded = History.load(tmp_path / "history.csv")
    assert len(loaded) == len(rows)
    for before, after in zip(history.records, loaded.records, strict=True):
        assert str(asdict(before)) == str(asdict(after))  # nan equals nan as text
        assert all(type(getattr(after, name)) is int for name in ("epoch", *COUNTS))


@pytest.mark.parametrize(
    ("accuracies", "best"),
    [
        ([(0.5, 0.5), (0.9, 0.3), (0.4, 0.4)], 2),
        ([(0.5, 0.7), (0.7, 0.5), (0.1, 0.1)], 2),  # the later of equals
        ([(0.6, 0.6), (NAN, NAN)], 1),
        ([(NAN, NAN), (NAN, NAN)], 2),  # nothing to compare: the last
        ([(NAN, NAN), (0.0, 0.0), (NAN, NAN)], 2),
    ],
)
def test_the_best_epoch(accuracies, best):
    history = History([record(n, *pair) for n, pair in enumerate(accuracies, 1)])
    assert history.best.epoch == best
    assert history.has_scores == (accuracies != [(NAN, NAN)] * 2)


def test_the_best_epoch_has_the_highest_score():
    records = [replace(record(n, 0.9, 0.9), score=score) for n, score in enumerate([0.3, 0.5, 0.4], 1)]
    assert History(records).best.epoch == 2


def test_a_history_of_an_earlier_release_has_no_score(tmp_path):
    History([record(1, 0.6, 0.8), record(2, 0.5, 0.5)]).save(tmp_path / "history.csv")
    old = pd.read_csv(tmp_path / "history.csv").drop(columns="score")
    old.to_csv(tmp_path / "history.csv", index=False)
    loaded = History.load(tmp_path / "history.csv")
    assert math.isnan(loaded.records[0].score)
    assert loaded.best.epoch == 1
    loaded.records.append(replace(record(3, 0.6, 0.7), score=0.68))  # the run goes on in this release
    assert loaded.best.epoch == 1


@pytest.mark.parametrize("text", ["", "a,b\n1,2\n", "\0"])
def test_a_file_of_something_else_is_refused_by_name(tmp_path, text):
    (tmp_path / "history.csv").write_text(text)
    with pytest.raises(InputError, match=r"history\.csv is not a training history"):
        History.load(tmp_path / "history.csv")


def test_a_missing_file_is_refused():
    with pytest.raises(InputError, match="nowhere"):
        History.load("nowhere.csv")
