"""How the parts of a sample add up: fractions by their factors, samples of water by their volumes."""

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from plankton_embed.analysis.fractions import CONTRADICTING, UNCLEAR, add_parts_up


def add_up(by="sample_id", names=("s",), **columns):
    images = pd.DataFrame(columns)
    if "code" not in images:
        images["code"] = 0
    return add_parts_up(images, np.array(names, dtype=object), by)


def test_fractions_share_one_volume():
    acquisition, factor = np.repeat(["d1", "d2"], [4, 8]), np.repeat([2.0, 16], [4, 8])
    parts = add_up(sample_id=["tow"] * 12, acq_id=acquisition, volume=100.0, subsample_factor=factor)
    assert parts.samples.drop(columns="subsample_factor").to_dict("records") == [
        {"volume": 100, "n_parts": 2, "added_up": "fractions"}
    ]
    assert np.isnan(parts.samples["subsample_factor"][0])  # there is not one for all
    assert parts.factor.tolist() == factor.tolist()
    assert parts.factor.sum() / parts.samples["volume"][0] == pytest.approx(1.36)
    assert parts.table.to_dict("list") == {
        "sample": ["s", "s"], "sample_id": ["tow", "tow"], "acq_id": ["d1", "d2"], "volume": [100, 100],
        "subsample_factor": [2, 16], "n_images": [4, 8],
    }  # fmt: skip
    unnamed = add_up(sample_id=["tow"] * 12, volume=100.0, subsample_factor=factor)  # the factors tell them apart
    assert (unnamed.samples["volume"][0], unnamed.samples["added_up"][0]) == (100, "fractions")
    alike = add_up(sample_id=["tow"] * 12, acq_id=acquisition, volume=100.0, subsample_factor=1.0)
    assert (alike.samples["volume"][0], alike.samples["subsample_factor"][0]) == (100, 1)


def test_volumes_of_samples_add_up():
    bins = np.repeat(["bin_1", "bin_2", "bin_3"], [3, 1, 2])
    volume = np.repeat([4.0, 5, 4], [3, 1, 2])
    parts = add_up("station", sample_id=bins, volume=volume)
    assert parts.samples.to_dict("records") == [{"volume": 13, "n_parts": 3, "added_up": "samples"}]
    assert parts.factor is None
    assert parts.water.tolist() == [0, 0, 0, 1, 2, 2]
    assert parts.water_volume.tolist() == [4, 5, 4]
    factor = [2.0, 2, 16, 1, 8, 8]
    both = add_up("station", sample_id=bins, volume=volume, subsample_factor=factor)
    assert (both.samples["volume"][0], both.samples["added_up"][0]) == (13, "fractions and samples")
    assert both.factor.tolist() == factor


def test_acquisitions_without_factors_are_samples_where_their_volumes_differ():
    of = {"sample_id": ["s"] * 4, "acq_id": ["1", "1", "2", "3"]}
    repeats = add_up(**of, volume=[2.0, 2, 3, 2])
    assert repeats.samples.to_dict("records") == [{"volume": 7, "n_parts": 3, "added_up": "samples"}]
    unclear = add_up(**of, volume=2.0).samples
    assert unclear["volume"].isna().all()
    assert unclear["why_missing"].tolist() == [UNCLEAR]


MISSING = [
    ({"volume": [1.0, np.nan]}, "volume is missing for some images"),
    ({"volume": [np.nan, np.nan]}, "volume is missing"),
    ({"volume": 1.0, "subsample_factor": [2, np.nan]},
     "subsample_factor is missing for some images (1: all was imaged)"),
    ({"volume": 1.0, "subsample_factor": [np.nan, np.nan]}, "subsample_factor is missing (1: all was imaged)"),
    ({"volume": 1.0, "subsample_factor": [2, 0.5]}, "subsample_factor below 1 (16: a sixteenth was imaged)"),
    ({"volume": 1.0, "sample_id": ["a", None]}, "sample_id is missing for some images"),
    ({"volume": 1.0, "volume_of": ["sea water", "fluid that was run"]},
     "volumes of different things (column volume_of)"),
    ({"volume": 1.0, "volume_of": [None, "fluid that was run"]}, "volumes of different things (column volume_of)"),
    ({"volume": [1.0, np.nan], "subsample_factor": [0.5, 1]},
     "volume is missing for some images; subsample_factor below 1 (16: a sixteenth was imaged)"),
]  # fmt: skip


@pytest.mark.parametrize(("columns", "why"), MISSING)
def test_an_amount_missing_for_one_image_is_missing_for_the_sample(columns, why):
    frame = {"sample_id": ["a", "a"], **columns, "code": 0}
    bad = pd.DataFrame(frame)
    good = bad.iloc[[1, 1]].assign(code=1, sample_id="b", volume=3.0, volume_of="sea water")
    good["subsample_factor"] = 4.0
    rows = pd.concat([bad, good[bad.columns]], ignore_index=True)
    parts = add_parts_up(rows, np.array(["bad", "good"], dtype=object), "station")
    assert parts.samples["why_missing"].tolist() == [why, ""]
    assert parts.samples["volume"].isna().tolist() == [not why.startswith("subsample"), False]
    if "subsample_factor" in columns:
        is_known = "subsample_factor" not in why
        assert np.isnan(parts.factor).tolist() == [not is_known, not is_known, False, False]


def test_images_of_no_sample_have_no_volume():
    parts = add_up("station", ("(none)",), sample_id=["a", "b"], volume=np.nan)
    assert parts.samples.to_dict("records")[0]["why_missing"] == "no station"


@pytest.mark.parametrize(
    "columns",
    [
        {},
        {"acq_id": ["d1", "d1"]},
        {"acq_id": ["d1", "d2"], "subsample_factor": [2, 16]},
        {"by": "station"},
        {"sample_id": [None, None], "by": "station"},
    ],
)
def test_volumes_that_contradict_one_another_cost_their_sample(columns):
    by = columns.pop("by", "sample_id")
    bad = pd.DataFrame({"sample_id": ["tow", "tow"], **columns, "volume": [100.0, 90], "code": 0})
    good = bad.assign(code=1, sample_id="other", volume=3.0)
    parts = add_parts_up(pd.concat([bad, good], ignore_index=True), np.array(["bad", "good"], dtype=object), by)
    assert parts.samples["why_missing"].tolist() == [CONTRADICTING, ""]
    assert parts.samples["volume"].tolist() == pytest.approx([np.nan, 3], nan_ok=True)
    assert parts.water_volume.tolist() == pytest.approx([np.nan, 3], nan_ok=True)
    assert not parts.samples["added_up"].str.contains("samples").any()
    assert sorted(set(parts.table["volume"])) == [3, 90, 100]  # as they are


def test_divided_samples_are_counted():
    columns = {"names": ("d1", "d2", "e"), "by": "acq_id", "code": [0, 1, 2], "sample_id": ["tow", "tow", "other"]}
    assert add_up(**columns, volume=100.0, subsample_factor=[2, 16, 4]).n_divided == 1
    assert add_up(**columns, subsample_factor=[2, 16, 4]).n_divided == 1
    assert add_up(**columns, volume=[1.0, 2, 3]).n_divided == 0  # each has its own
    assert add_up(**columns).n_divided == 0


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.sampled_from(["a", "b", "c"]), st.sampled_from(["1", "2", None])), min_size=1
    ),
    st.booleans(),
)
def test_the_formula(rows, has_factors):
    """The volumes of a group are those of its samples, once each; each image weighs by its own factor."""
    groups = sorted({group for group, *_ in rows})
    volume = {"a": 3.0, "b": 5.0, "c": 7.0}
    images = pd.DataFrame(
        {
            "code": [groups.index(group) for group, *_ in rows],
            "sample_id": [sample for _, sample, _ in rows],
            "volume": [volume[sample] for _, sample, _ in rows],
        }
    )
    if has_factors:
        images["acq_id"] = [acquisition for *_, acquisition in rows]
        images["subsample_factor"] = [2.0 if acquisition == "1" else 16.0 for *_, acquisition in rows]
    parts = add_parts_up(images, np.array(groups, dtype=object), "station")
    expected = [sum(volume[s] for s in {s for g, s, _ in rows if g == group}) for group in groups]
    assert parts.samples["volume"].tolist() == expected
    assert parts.table["n_images"].sum() == len(rows)
    names = zip(images["code"], images["sample_id"], strict=True)
    waters = dict(zip(names, parts.water, strict=True))
    assert len(set(waters.values())) == len(waters) == len(parts.water_volume)
    assert all(parts.water_volume[water] == volume[sample] for (_, sample), water in waters.items())
    if has_factors:
        assert parts.factor.tolist() == images["subsample_factor"].tolist()
