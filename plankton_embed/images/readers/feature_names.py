"""Which numeric columns describe the object itself; positions on the scan, sequence numbers, tags and times do not."""

from __future__ import annotations

import re

_AXIS = r"(?:[xyz]|row|col|column)"
_END = r"(?:start|end|min|max|mg\d?|pos|position|cent(?:er|re|roid)|coord|coordinate|offset|loc|location)"
_FRAME = r"(?:bbox|bounding_?box|box|roi|crop|capture|image|img|src|source|collage|frame|scan|vignette)"
_NUMBERED = (
    r"(?:object|obj|image|img|frame|roi|particle|blob|vignette|slice|scan|line|target|event|trigger|capture|file|"
    r"sample|track|seq|sequence|picture|source|src|crop|collage|filter|profile|cast|haul|station|cruise|acq|"
    r"acquisition|run|tow|bin|record|row|item|region|contour|batch|group|class|cal|calibration)"
)
_WORLD = r"(?:lat|latitude|lon|long|longitude)"
NO_FEATURE = re.compile(
    "|".join(
        (
            rf"{_AXIS}|[xyz]\d|[xy][mcg]|[bc][xy]|[xyz]_?{_END}|{_END}_?{_AXIS}",  # positions on the scan
            rf"(?:.+_)?centroid(?:_?(?:\d|{_AXIS}))?",
            rf"{_FRAME}_?(?:\d|[xy]\d?|{_AXIS}|[xy]_?{_END}|{_END}_?{_AXIS}|left|top|right|bottom)",
            r"left|top|right|bottom|(?:.+_)?(?:start_?byte|byte_?offset)",
            rf"(?:{_NUMBERED}_?)?(?:number|no|num|nr|index|idx|order|counter)",
            r"(?:.+_)?(?:ids?|uid|tag|ltag|label|rank|serial)",
            r"roi|frame|slice|target|trigger|event|haul|cast|station|cruise|random_value",  # sequence numbers, too
            rf"(?:.+_)?{_WORLD}(?:_(?:start|begin|end|min|max|deg|degrees|dd))?",
            r"depth(?:_(?:min|max|start|end|top|bottom|mean|bin))?|(?:min|max|mean|start|end|bottom|profile)_depth",
            r"(?:.+_)?(?:time_?stamp|date_?time|date|time|julian(?:_?day)?|year|month|day|hour|minute|second)"
            r"(?:_(?:start|end|utc|gmt|local|s|ms))?",
        )
    )
)
UNIT = re.compile(r"_(?:px|pix|pixels?|um|µm|mm|microns?|m|deg)$")


def is_feature(name: str) -> bool:
    """Return whether a numeric column may describe the object; give `name` without the prefix of its source.

    Columns of ZooProcess (`x`, `bx`, `xstart`, `tag`), UVP, PlanktoScope (`label`, `local_centroid_row`), FlowCam
    (`capture_x`, `src_x`), IFCB (`roi_number`, `trigger_number`), ISIIS (`bbox-0`) and the like are recognized by
    their names. Sizes of boxes (`width`, `bounding_box_area`) are features.
    """
    plain = re.sub(r"[\s.\-]+", "_", name.strip().lower()).strip("_")
    return not NO_FEATURE.fullmatch(UNIT.sub("", plain))
