"""Which numbers describe an object, by the names that instruments give them."""

import pytest

from plankton_embed.images.readers.feature_names import is_feature

NO_FEATURES = {
    "zooprocess": "x y xm ym bx by xstart ystart xmg5 ymg5 tag lat_end lon_end",
    "planktoscope": "label x y local_centroid_col local_centroid_row",
    "flowcam": "capture_x capture_y image_x src_y particle_id timestamp elapsed_time",
    "ifcb": "roi_number roi_x trigger_number start_byte",
    "isiis": "bbox-0 centroid-1 weighted_centroid-0 x_position y_position frame_number image_index year",
    "loki": "index haul posx posy date time depth_min",
    "any": "object_number x_px number id rank bounding_box_x x_min xmax random_value",
}
FEATURES = {
    "zooprocess": "area mean stddev mode min max perim. width height major minor angle circ. feret %area area_exc nb1 "
    "symetrieh symetriehc centroids meanpos range cv sr thickr esd elongation fractal skelarea histcum1 nb3_range",
    "planktoscope": "euler_number bounding_box_area equivalent_diameter eccentricity MeanHue blur_laplacian",
    "flowcam": "image_w image_h length ch1_peak elongation_index",
    "loki": "form Hu_moment_1 fourier_descriptor_01 salinity",
}


@pytest.mark.parametrize("source", NO_FEATURES)
def test_places_order_numbers_tags_and_times_are_none(source):
    assert [name for name in NO_FEATURES[source].split() if is_feature(name)] == []


@pytest.mark.parametrize("source", FEATURES)
def test_what_is_measured_is_one(source):
    assert [name for name in FEATURES[source].split() if not is_feature(name)] == []
