"""From every source to vectors and names, and the names back to where the images came from."""

import io
import runpy
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plankton_embed.embedding import embed_source as embed
from plankton_embed.images.catalog import ImageCatalog
from plankton_embed.images.readers.source import read_source
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.settings import NetworkSettings, PreparationSettings
from plankton_embed.table import EmbeddingTable
from plankton_embed.workflows.classify import classify
from plankton_embed.workflows.export import export

check_table = runpy.run_path(str(Path(__file__).parent / "images" / "writers" / "ecotaxa_rules.py"))["check_table"]

CLASSES = ["007", "Œuf<Copépode", "a/b, c"]
STATUSES = ["validated", "predicted", "", "dubious"]
BIN = "D20130526T095207_IFCB013"
N = 8
PICTURES = np.random.default_rng(0).integers(0, 256, (N, 9, 12), dtype=np.uint8)


@pytest.fixture(scope="module")
def model():
    network = NetworkSettings(trunk="resnet18", dimension=8)
    return EmbeddingModel.build(network, PreparationSettings(target_size=75), seed=0).to("cpu")


def as_png(pixels):
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "png")
    return out.getvalue()


def predict_images(catalog, model, folder, suffix=".csv"):
    """Save and load the catalog, embed its images, and name them by references whose classes take turns."""
    catalog = ImageCatalog.load(catalog.save(folder / "saved" / f"catalog{suffix}"))
    asked = embed(model, catalog, device="cpu", progress=False)
    assert asked.object_id.tolist() == catalog.frame["object_id"].tolist()
    np.testing.assert_allclose(asked.vectors, model.embed(list(PICTURES)), atol=1e-5)
    expected = [CLASSES[row % len(CLASSES)] for row in range(N)]
    known, held = (
        EmbeddingTable(
            asked.vectors + 1e-3 * number,
            object_id=list(map(str, range(N))),
            label=np.array(expected, dtype=object),
            provenance=asked.provenance,
        )
        for number in range(2)
    )
    names = classify(
        known, asked, "knn", folder / "names.csv", n_neighbors=1, calibration=held, all_probabilities=True,
        device="cpu", progress=False,
    )  # fmt: skip
    assert names["label"].tolist() == expected
    return catalog, dict(zip(names["object_id"], expected, strict=True))


def put(folder, files, kind):
    """Write files into a folder or a ZIP; return it."""
    if kind == "zip":
        with zipfile.ZipFile(folder / "set é +&#.zip", "w") as archive:
            for name, content in files.items():
                archive.writestr(name, content)
        return folder / "set é +&#.zip"
    for name, content in files.items():
        (folder / "set é +&#" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "set é +&#" / name).write_bytes(content)
    return folder / "set é +&#"


@pytest.mark.parametrize(("kind", "suffix"), [("folder", ".csv"), ("zip", ".parquet")])
def test_names_go_back_to_ecotaxa(model, tmp_path, kind, suffix):
    lines = ["object_id\timg_file_name\tobject_annotation_category\tobject_annotation_status"]
    for row in range(N):
        status = STATUSES[row % len(STATUSES)]
        lines.append(f"é {row:03}\ti/{row}.png\t{'Méduse' if status else ''}\t{status}")
    pictures = {f"i/{row}.png": as_png(pixels) for row, pixels in enumerate(PICTURES)}
    source = put(tmp_path, {"ecotaxa_in.tsv": "\n".join(lines).encode()} | pictures, kind)
    catalog, names = predict_images(read_source(source), model, tmp_path, suffix)
    is_open = [row for row in range(N) if STATUSES[row % len(STATUSES)] in ("predicted", "")]

    counts = export(tmp_path / "names.csv", catalog, tmp_path / "ecotaxa_update.tsv")
    written = check_table(tmp_path / "ecotaxa_update.tsv", is_update=True)
    assert {row["object_id"]: row["object_annotation_category"] for row in written} == {
        f"é {row:03}": names[f"é {row:03}"] for row in is_open
    }
    assert (counts.n_objects, counts.n_validated) == (len(is_open), N - len(is_open))

    output = tmp_path / "back" / "ecotaxa_out.tsv"
    export(tmp_path / "names.csv", catalog, output, copy_images=True)
    copies = [output.parent / row["img_file_name"] for row in check_table(output)]
    assert [copy.name for copy in copies] == [f"{row}.png" for row in is_open]
    assert [copy.read_bytes() for copy in copies] == [pictures[f"i/{row}.png"] for row in is_open]
    again = read_source(output, status="predicted")
    assert again.frame["object_id"].tolist() == [f"é {row:03}" for row in is_open]
    assert again.labels == [names[f"é {row:03}"] for row in is_open]
    assert set(again.frame["annotation_status"]) == {"predicted"}


def test_scores_go_back_to_a_dashboard(model, tmp_path):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed (extra ifcb)")
    cells = [["1"] * 15 + ["12", "9", str(row * 108)] + ["1"] * 6 for row in range(N)]
    adc = "\n".join(",".join(row) for row in [["0"] * 24, *cells])  # the first target has no image
    files = {".adc": adc.encode(), ".hdr": b"temperature: 20", ".roi": PICTURES.tobytes()}
    source = put(tmp_path, {f"D2013/{BIN}{suffix}": content for suffix, content in files.items()}, "folder")
    catalog, names = predict_images(read_source(source), model, tmp_path)
    safe = dict(zip(CLASSES, ["007", "egg", "a/b, c"], strict=True))
    export(tmp_path / "names.csv", catalog, tmp_path / "scores", target="ifcb", class_map=safe)
    with h5py.File(tmp_path / "scores" / "D2013" / "D20130526" / f"{BIN}_class.h5") as file:
        assert file["roi_numbers"][:].tolist() == list(range(2, N + 2))
        best = file["class_labels"].asstr()[:][file["output_classes"][:].astype(int)]
    assert best.tolist() == [safe[names[f"{BIN}_{target:05}"]] for target in range(2, N + 2)]


def make_collage(folder):
    place = [f"{number + 1}|0|{9 * number}|12|9|run.tif" for number in range(N)]
    fields = ["id|int32", "image_x|int32", "image_y|int32", "image_w|int32", "image_h|int32", "collage_file|string"]
    lines = "\n".join(["017", "num-fields|6", *fields, *place])
    out = io.BytesIO()
    Image.fromarray(PICTURES.reshape(-1, 12)).save(out, "tiff")
    return put(folder, {"run.lst": lines.encode(), "run.tif": out.getvalue()}, "folder")


def make_challenge(folder):
    images = io.BytesIO()
    with zipfile.ZipFile(images, "w") as archive:
        for row, pixels in enumerate(PICTURES):
            archive.writestr(f"imgs/{row:03}.png", as_png(pixels))
    meta = "objid,level2\n" + "".join(f"{row:03},NA<b\n" for row in range(N))
    return put(folder, {"imgs.zip": images.getvalue(), "meta.csv": meta.encode()}, "folder")


def make_array(folder):
    np.save(folder / "birds é.npy", np.asfortranarray(PICTURES.astype(">f4")))
    return folder / "birds é.npy"


def make_arrays(folder):
    np.savez(folder / "birds.npz", **{"a/b": PICTURES})
    return folder / "birds.npz"


@pytest.mark.parametrize("make", [make_collage, make_challenge, make_array, make_arrays])
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_images_inside_other_files_are_named_as_plain_ones(model, tmp_path, monkeypatch, make, suffix):
    source = make(tmp_path)
    wanted = read_source(source)
    monkeypatch.chdir(tmp_path)
    relative = read_source(source.relative_to(tmp_path))
    assert relative.frame.equals(wanted.frame)
    catalog, _ = predict_images(relative, model, tmp_path, suffix)
    assert catalog.paths == wanted.paths
