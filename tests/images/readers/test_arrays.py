"""Arrays of images, with labels in every form."""

import csv
import io
import logging
import zipfile

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from plankton_embed.errors import InputError
from plankton_embed.images.preparation import open_image
from plankton_embed.images.readers.arrays import read, recognize
from plankton_embed.images.readers.faults import Faults
from plankton_embed.images.readers.source import read_source
from plankton_embed.spreadsheet import clean_label

PICTURES = np.random.default_rng(0).integers(0, 256, (4, 6, 9), dtype=np.uint8)


def pixels(catalog):
    return np.stack([np.asarray(open_image(path)) for path in catalog.paths])


def labels_of(tmp_path, text, n_images=4, keep_going=False, encoding="utf-8"):
    np.save(tmp_path / "a.npy", np.zeros((n_images, 6, 9), dtype=np.uint8))
    (tmp_path / "labels.csv").write_bytes(text.encode(encoding))
    return read(tmp_path / "a.npy", Faults("a.npy", keep_going), labels=tmp_path / "labels.csv").labels


def write_labels(labels, delimiter, index, header, quoting):
    """Labels as the csv module writes them; `index` is None or the order of the rows."""
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quoting=quoting)
    if header:
        writer.writerow(["class"] if index is None else ["", "class"])
    writer.writerows([[name] for name in labels] if index is None else [[k, labels[k]] for k in index])
    return out.getvalue()


names = st.text(st.characters(codec="utf-8", exclude_characters="\0\r"), min_size=1, max_size=8).map(
    lambda name: f"x{name}z"
)


@settings(max_examples=150)
@given(
    array=hnp.arrays(np.uint8, hnp.array_shapes(min_dims=3, max_dims=3, min_side=5, max_side=7)),
    data=st.data(),
    delimiter=st.sampled_from(",;\t"),
    layout=st.sampled_from(["one column", "from 0", "from 1"]),
    header=st.booleans(),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
)
def test_what_is_written_is_read(tmp_path_factory, array, data, delimiter, layout, header, quoting):
    folder = tmp_path_factory.mktemp("arrays")
    labels = data.draw(st.lists(names, min_size=len(array), max_size=len(array)))
    index = None if layout == "one column" else data.draw(st.permutations(range(len(array))))
    if index is None:
        quoting = csv.QUOTE_ALL  # in one column, the delimiter of a label without quotes parts it
    text = write_labels(labels, delimiter, index, header, quoting)
    if layout == "from 1":
        rows = list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter))
        out = io.StringIO(newline="")
        csv.writer(out, delimiter=delimiter, quoting=quoting).writerows(
            [[str(int(row[0]) + 1) if row[0].isdigit() else row[0], row[1]] for row in rows]
        )
        text = out.getvalue()
    np.save(folder / "a.npy", array)
    (folder / "labels.csv").write_bytes(text.encode())
    catalog = read_source(folder)
    assert catalog.labels == [clean_label(name) for name in labels]
    assert list(catalog.frame["object_id"]) == [f"a_{k}" for k in range(len(array))]
    assert np.array_equal(pixels(catalog), array)


@pytest.mark.parametrize("shape", [(3, 6, 9), (3, 6, 9, 1), (3, 6, 9, 3)])
@pytest.mark.parametrize("dtype", ["uint8", "int64", "float32", "float64", "uint16", ">i4", "bool"])
def test_raw_pixels_come_out_of_every_type_and_shape(tmp_path, shape, dtype):
    raw = np.random.default_rng(1).integers(0, 256, shape).astype(np.uint8)
    raw[:, 0, 0] = 255
    array = raw.astype(dtype)
    if dtype == "uint16":
        raw = raw[..., :1] if shape[-1] == 3 else raw  # 16 bits are grey
        array = raw.astype(dtype) * np.uint16(257)
    elif dtype == "bool":
        raw = array * np.uint8(255)
    np.save(tmp_path / "a.npy", np.asfortranarray(array))
    catalog = read_source(tmp_path / "a.npy")
    assert catalog.labels == [None] * 3
    seen = pixels(catalog)
    assert np.array_equal(seen // 257 if dtype == "uint16" else seen, raw.reshape(seen.shape))


def test_floats_of_0_to_1_are_scaled(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES / 255)
    assert np.array_equal(pixels(read_source(tmp_path)), PICTURES)


@pytest.mark.parametrize("name", ["images", "x_train"])
def test_an_npz_with_its_labels(tmp_path, name, caplog):
    np.savez_compressed(tmp_path / "set.npz", **{name: PICTURES}, labels=[0, 2, 1, 0], dates=np.arange(4))
    with caplog.at_level(logging.WARNING):
        catalog = read_source(tmp_path / "set.npz")
    assert "ignored the arrays dates" in caplog.text
    assert catalog.labels == ["0", "2", "1", "0"]
    assert catalog.paths[3].endswith(f"set.npz/{name}/3")
    assert np.array_equal(pixels(catalog), PICTURES)


@pytest.mark.parametrize(
    ("labels", "seen"),
    [
        (np.array(["a", "NA", "", "d,e"]), ["a", "NA", None, "d,e"]),
        (np.array([1.0, np.nan, 0.0, 12.0]), ["1", None, "0", "12"]),
        (np.array([1234567.0, np.nan, 0.0, 1.0]), ["1234567", None, "0", "1"]),
        (np.float32([0.1, np.nan, 1.0, 2.0]), ["0.1", None, "1.0", "2.0"]),
        (np.array([2**53 + 1, 1, 2, 3]), [str(2**53 + 1), "1", "2", "3"]),
        (np.array([[1], [2], [3], [4]]), ["1", "2", "3", "4"]),
        (np.array(["ä".encode(), b"b", b"c", b"d"]), ["ä", "b", "c", "d"]),
    ],
)
def test_labels_of_every_type_in_an_npz(tmp_path, labels, seen):
    np.savez(tmp_path / "set.npz", images=PICTURES, labels=labels)
    assert read_source(tmp_path / "set.npz").labels == seen


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("0\n1\nNA\n007\n", ["0", "1", "NA", "007"]),
        ("class\n0\n1\nNA\n007", ["0", "1", "NA", "007"]),
        ("0\r\n0\r\n1\r\n0\r\n2\r\n\r\n", ["0", "1", "0", "2"]),  # pandas names a column without a name 0
        ('"a, b"\nc\n""\nd\n', ["a, b", "c", None, "d"]),
        ("a; b\nc\nd\ne\n", ["a; b", "c", "d", "e"]),
        ("Calanus, f\nCalanus, m\nOithona, f\nOithona, m\n", None),
        (",0\n3,d\n1,b\n0,a\n2,c\n", ["a", "b", "c", "d"]),
        ("4;d,d\n1;a,b\n2;b,c\n3;c,e\n", ["a,b", "b,c", "c,e", "d,d"]),
        ("0,a;b\n1,c;d\n2,e;f\n3,;\n", ["a;b", "c;d", "e;f", ";"]),
        ('1.0\n""\n2.0\n1.0\n', ["1", None, "2", "1"]),
        ("class\n1.0\n2.5\n2.0\n1.0\n", ["1.0", "2.5", "2.0", "1.0"]),
        (",label\n0,1.0\n1,\n2,2.0\n3,1.0\n", ["1", None, "2", "1"]),
        ("class\n1.0\n\n2.0\n1.0\n", ["1", None, "2", "1"]),  # as a spreadsheet writes an empty cell of one column
        ("a\n\nb\na\n", ["a", None, "b", "a"]),
        ("label\r\na\r\n\r\nb\r\n\r\n", ["a", None, "b", None]),
        ("a\nb\n\na\nb\n", ["a", "b", "a", "b"]),  # five lines of four images, the first no header
        ("a\n\nb\n\na\n\nb\n", ["a", "b", "a", "b"]),
        ("\ufeffid\tclass\n0\ta\n1\t\n2\tb\n3\tb\n", ["a", None, "b", "b"]),
    ],
)
def test_labels_in_every_form(tmp_path, text, seen):
    if seen is None:
        with pytest.raises(InputError, match=r"expected every number from 0 to 3 once; found 'Calanus'"):
            labels_of(tmp_path, text)
    else:
        assert labels_of(tmp_path, text) == seen


def test_labels_as_pandas_writes_them(tmp_path):
    labels = pd.Series([0, 2, 1, 0])
    for index in (True, False):
        for header in (True, False):
            text = labels.to_csv(index=index, header=header)
            assert labels_of(tmp_path, text) == ["0", "2", "1", "0"], text
    assert labels_of(tmp_path, "é\nb\nc\nd\n", encoding="latin-1")[0] == "é"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a\nb\nc\n", "expected 4 rows, one for each image, or one more with a header; found 3"),
        ("a\nb\nc\na\nb\n", "found 5"),  # five classes, the first of which is no header
        ("a\nb\nc\na\nb\nc\n", "found 6"),
        ("0,a\n1,b\n2,c\n3,a\n4,b\n", "expected 4 rows, one for each image; found 5"),
        ("id,class\n0,a\n1,b\n2,c\n", "found 3 below the header"),
        ("0,a\n1,b\n2,c\n2,d\n", r"row 4, column 1 \(row number\): expected every .* once; found '2' again"),
        ("id,class\n1,a\n2,b\n3,c\n5,d\n", "row 5, column .*: expected every number from 0 to 3 once; found '5'"),
        ("0,a\n1,b\nx,c\n3,d\n", "row 3, column .*; found 'x'"),
        ("0,a,b\n1,b,b\n2,c,b\n3,d,b\n", "expected one column .* found 3 cells in row 1; put quotes around"),
        ("0,a\n1,b\n2,c,d\n3,d\n", "found 3 cells in row 3"),
        ("label\na\nb\nc\n", "one more with a header; found 3 below the header"),
        ("x\na\n\nb\na\n", "row 3: expected a class; found an empty line, .* as in 0,copepod"),
        ("\n", "found an empty file"),
        ("a\0b", "zero byte"),
        ('class\na\n"b\nc"\nd\n', "row 3: .* found a quote that takes in 2 lines"),
        ('id,class\n0,"a\n1,b\n2,c"\n3,d\n', "row 2: .* found a quote that takes in 3 lines"),
    ],
)  # fmt: skip
def test_wrong_labels_are_reported(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        labels_of(tmp_path, text)


def test_good_labels_of_a_half_good_table_are_kept_on_request(tmp_path, caplog):
    assert labels_of(tmp_path, "0,a\n1,b\nx,c\n3,d\n", keep_going=True) == ["a", "b", None, "d"]
    assert labels_of(tmp_path, "0,a\n1,b\n1,c\n3,d\n", keep_going=True) == ["a", None, None, "d"]
    assert labels_of(tmp_path, "a\nb\n", keep_going=True) == [None] * 4
    assert "left out" in caplog.text


def test_a_folder_is_known_by_its_one_array(tmp_path):
    assert not recognize(tmp_path, ["sub/a.npy"])
    np.save(tmp_path / "a.npy", PICTURES)
    assert recognize(tmp_path, ["a.npy", "readme.md"])
    assert recognize(tmp_path / "a.npy", ["a.npy"])
    (tmp_path / "class").mkdir()
    (tmp_path / "class" / "1.png").touch()
    assert not recognize(tmp_path, ["a.npy"])


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["a.npy", "b.npz"], "expected one array .* found a.npy, b.npz; give the file itself"),
        (["a.npy", "x.csv", "y.csv"], "expected one CSV, the labels; found x.csv, y.csv"),
    ],
)
def test_a_folder_of_several_is_reported(tmp_path, files, message):
    for name in files:
        np.save(tmp_path / "some.npy", PICTURES)
        (tmp_path / "some.npy").rename(tmp_path / name)
    with pytest.raises(InputError, match=message):
        read_source(tmp_path)


def test_labels_twice_are_reported(tmp_path):
    np.savez(tmp_path / "a.npz", images=PICTURES, labels=list("abcd"))
    (tmp_path / "labels.csv").write_text("a\nb\nc\nd\n")
    with pytest.raises(InputError, match=r"contains labels; found more labels in .*labels\.csv"):
        read_source(tmp_path)


FLAT = np.zeros((4, 81), dtype=np.uint8)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (FLAT, r"found shape \(4, 81\); reshape each row"),
        (FLAT[0], r"found shape \(81,\)"),
        (np.zeros((6, 9, 3)), r"if it is one colour image, save array\[None\]"),
        (np.zeros((4, 3, 9, 9)), "move the channels to the end"),
        (np.zeros((4, 9, 9, 4)), r"found shape \(4, 9, 9, 4\)"),
        (np.zeros((0, 9, 9)), r"found shape \(0, 9, 9\)"),
        (PICTURES.astype(str), "expected pixels as numbers or bool; found <U"),
        (PICTURES.astype(complex), "found complex128"),
        (np.array([PICTURES, None], dtype=object), "found Python objects"),
        (PICTURES.astype(float) - 300, "expected pixels of 0 to 255; found -.* in image 0 and in 3 other images"),
        (np.where(np.arange(4)[:, None, None] == 2, np.nan, PICTURES), "found nan to nan in image 2;"),
        (PICTURES.astype(int) * 100, "scale them, or save 16-bit grey images as uint16"),
        (np.full((2, 9, 9, 3), 999, dtype=np.uint16), "expected colour pixels of 0 to 255; found uint16"),
    ],
)
@pytest.mark.parametrize("kind", ["npy", "npz"])
def test_arrays_of_no_images_are_reported(tmp_path, array, message, kind):
    path = tmp_path / f"a.{kind}"
    if kind == "npy":
        np.save(path, array, allow_pickle=True)
    else:
        np.savez(path, images=array)
    with pytest.raises(InputError, match=message):
        read_source(path)


def test_broken_files_are_reported(tmp_path):
    np.save(tmp_path / "a.npy", PICTURES)
    np.savez(tmp_path / "a.npz", x=PICTURES, y=PICTURES)
    with pytest.raises(InputError, match="one of three or four dimensions; found x, y among x, y"):
        read_source(tmp_path / "a.npz")
    for name in ("a.npy", "a.npz"):
        whole = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(whole[:200])
        with pytest.raises(InputError, match="cannot be read as an array"):
            read_source(tmp_path / name)
        (tmp_path / name).write_bytes(b"")
        with pytest.raises(InputError, match="expected a file saved by NumPy as"):
            read_source(tmp_path / name)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("images.npy", "no array")
    with pytest.raises(InputError, match=r"expected an array named images, .* found none among images"):
        read_source(tmp_path / "a.npz")
    for name in ("../a", "..", "/a", "a//b"):
        np.savez(tmp_path / "a.npz", **{name: PICTURES})
        with pytest.raises(
            InputError, match=f"the array name '{name}' cannot be part of a path; save the array as images"
        ):
            read_source(tmp_path / "a.npz")
    np.savez(tmp_path / "b.npz", images=PICTURES, labels=np.array(list("abcd"), dtype=object))
    with pytest.raises(InputError, match=r"labels as np\.array"):
        read_source(tmp_path / "b.npz")
    np.savez(tmp_path / "c.npz", images=PICTURES, labels=np.eye(4))
    with pytest.raises(InputError, match=r"array labels: expected one name or number for each of the 4 images; found"):
        read_source(tmp_path / "c.npz")


@pytest.mark.parametrize("kind", ["npy", "npz"])
@pytest.mark.parametrize("channels", [(), (3,)])
def test_8_bits_in_uint16_are_read_as_such_and_reported(tmp_path, kind, channels, caplog):
    pictures = np.random.default_rng(0).integers(0, 201, (4, 6, 9, *channels)).astype(np.uint16)
    path = tmp_path / f"a.{kind}"
    np.save(path, pictures) if kind == "npy" else np.savez(path, images=pictures)
    seen = pixels(read_source(path))
    assert (seen.dtype, seen.tolist()) == (np.uint8, pictures.tolist())
    assert "they are read as 8 bits, so 255 is white" in caplog.text
