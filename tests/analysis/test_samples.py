"""Images divided into samples."""

import numpy as np
import pandas as pd
import pytest

from plankton_embed.analysis.samples import divide_samples
from plankton_embed.errors import InputError


def test_a_date_without_time_does_not_count_in_a_sample_with_times():
    times = pd.Series(["2014-04-20T12:00:00Z", "2014-04-20T14:00:00Z", "2014-04-20"] * 10 + ["2014-04-21"] * 60)
    water = np.repeat(["p", "q", "r"], [30, 20, 40])
    found = divide_samples(pd.DataFrame({"object_id": np.arange(90).astype(str), "sample_id": water, "time": times}))
    assert found.samples["time"].tolist() == ["2014-04-20T13:00:00Z", "2014-04-21", "2014-04-21"]
    assert found.times[0] == pd.Timestamp("2014-04-20T13:00:00Z")


def test_a_sample_with_the_name_of_images_without_sample_is_refused():
    with pytest.raises(InputError, match="is called"):
        divide_samples(pd.DataFrame({"object_id": ["1", "2"], "sample_id": ["(none)", None]}))
