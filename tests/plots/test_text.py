"""Text that is shortened or broken to fit."""

import pytest

from plankton_embed.plots.text import fit_lines, shorten, text_width


def test_shortened_text_fits_and_keeps_both_ends():
    name = "siphonophore_calycophoran_rocketship_young"
    short = shorten(name, 100, 8)
    assert text_width(short, 8) <= 100
    assert short.startswith("siphono")
    assert short.endswith("young")
    assert "…" in short
    assert shorten("copepod", 100, 8) == "copepod"
    assert shorten("copepod", 1, 8) == "…"
    assert shorten("", 0, 8) == ""


def test_lines_break_after_words_and_never_grow_in_number():
    width = text_width("copepod_calanoid_", 8) + 0.1
    assert fit_lines("copepod_calanoid_eggs", width, 8, 2) == "copepod_calanoid_\neggs"
    assert fit_lines("copepod_calanoid_eggs", 500, 8, 2) == "copepod_calanoid_eggs"
    assert fit_lines("one\ntwo\nthree", 500, 8, 2) == "one\ntwo"
    assert fit_lines("", 10, 8, 2) == ""
    many = fit_lines("a_b_c_d_" * 20, 40, 8, 3).split("\n")
    assert len(many) == 3
    assert all(text_width(line, 8) <= 40 for line in many)


@pytest.mark.parametrize("character", ["\n", "\r", "\x00", "\x0b", "\x1b", "\x85", "\u2028", "\ud800"])
def test_characters_that_cannot_be_drawn_become_blanks(character):
    assert shorten(f"Calanus{character}CV", 500, 9) == "Calanus CV"
    if character != "\n":  # the line breaks of a caption are kept
        assert fit_lines(f"Calanus{character}CV", 500, 9, 2) == "Calanus CV"
