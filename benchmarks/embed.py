"""From image files to vectors on disk: ours against torchvision as given, in one run.

    pip install -e ".[cpu,onnx]"
    python benchmarks/embed.py IMAGES --n 10000
    python benchmarks/embed.py IMAGES --trunk resnet18 --side 96 --run RUN

IMAGES has one folder for each class. The rival is the trunk of torchvision with a linear layer of 64, in float32 under
`no_grad`, fed by `ImageFolder` (Resize, ToTensor, Normalize) and `DataLoader(num_workers=2, batch_size=32)`; it runs
once before and once after ours, and its time starts when it is imported and built. Ours is the command `embed`, from
its start to its end. Then parts of ours: the network alone, beside the rate of the same device in products of matrices
of 2048 x 2048 in the same precision, and embedding from prepared images; the same on the CPU in float32, in turn with
an ONNX file of the model (onnxruntime, as many threads). With a run, its vectors in bfloat16 and
float32 are compared, on its test images: cosine, and the classes that 10 nearest training images give.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch.utils.flop_counter import FlopCounterMode

import plankton_embed as pe
from plankton_embed.images.catalog import content_hashes
from plankton_embed.images.store import prepare_images
from plankton_embed.network.device import autocast, resolve_precision
from plankton_embed.network.inference import prepare_for_inference
from plankton_embed.settings import NetworkSettings, PreparationSettings

RIVAL = """
import sys, time
import numpy as np, torch, torchvision
from torchvision import transforms
folder, trunk, side, device = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
options = {"init_weights": False, "aux_logits": False} if trunk == "inception_v3" else {}
net = torchvision.models.get_model(trunk, weights=None, **options)
net.fc = torch.nn.Linear(net.fc.in_features, 64)
net = net.eval().to(device)
normalize = transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
steps = transforms.Compose([transforms.Resize((side, side)), transforms.ToTensor(), normalize])
loader = torch.utils.data.DataLoader(torchvision.datasets.ImageFolder(folder, steps), batch_size=32, num_workers=2)
start = time.perf_counter()
with torch.no_grad():
    vectors = [net(images.to(device)).cpu() for images, _ in loader]
np.save(sys.argv[5], torch.cat(vectors).numpy())
print(time.perf_counter() - start)
"""


def link_images(source: Path, n: int, folder: Path) -> int:
    """Fill a folder with links to n images of every class folder, evenly spread; return how many there are."""
    paths = sorted(path for path in source.glob("*/*") if path.is_file())
    chosen = [paths[row] for row in np.unique(np.linspace(0, len(paths) - 1, n).astype(int))]
    for path in chosen:
        (folder / path.parent.name).mkdir(parents=True, exist_ok=True)
        (folder / path.parent.name / path.name).symlink_to(path.resolve())
    return len(chosen)


def time_process(words: list[str], path: str | None = None) -> tuple[float, str]:
    """Return the seconds of a whole process, and what it printed."""
    start = time.perf_counter()
    where = {**os.environ, **({"PYTHONPATH": path} if path else {})}
    done = subprocess.run([sys.executable, *words], check=True, capture_output=True, text=True, env=where)
    return time.perf_counter() - start, done.stdout


def rate_per_second(
    work: Callable[[], object], n: int, device: torch.device, seconds: float = 8, least: int = 3
) -> float:
    """Return n a second: the median of calls, at least so many, that take some seconds in all."""
    times: list[float] = []
    work()
    while sum(times) < seconds or len(times) < least:
        start = time.perf_counter()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return n / float(np.median(times))


def measure_network(model: pe.EmbeddingModel) -> dict[str, Any]:
    """Measure the network alone beside the device's rate of matrix products in the same precision."""
    side, n, device = model.preparation.target_size, model.choose_batch_size(), model.device
    net = prepare_for_inference(model.net, "auto")
    pixels = torch.randint(0, 256, (n, 1, side, side), dtype=torch.uint8, device=device)
    sides = torch.zeros(n, 2, device=device)
    precision = resolve_precision(device, "auto")
    matrix = torch.randn(2048, 2048, device=device, dtype=getattr(torch, precision))
    with torch.inference_mode(), autocast(device, "auto"), FlopCounterMode(display=False) as counter:
        net(pixels, sides)
    found = []
    with torch.inference_mode(), autocast(device, "auto"):
        for _ in range(5):  # in turn, since other work on the machine comes and goes
            matrices = rate_per_second(lambda: matrix @ matrix, 2 * 2048**3, device, 2)
            found.append((rate_per_second(lambda: net(pixels, sides), n, device, 4), matrices))
    images, matrices = np.median(found, axis=0)
    share = float(np.median([a * counter.get_total_flops() / n / b for a, b in found]))
    found_rates = {"images_per_second": images, "matrix_tflops": matrices / 1e12, "share_of_matrix": share}
    return {"batch_size": n, "precision": precision, **found_rates}


def compare_onnx(model: pe.EmbeddingModel, folder: Path) -> dict[str, float]:
    """Compare embedding prepared pixels by an ONNX file with ours in float32, in turn on the same cores."""
    model = model if model.device.type == "cpu" else pe.EmbeddingModel.load(folder / "model", "cpu")
    embedder = pe.OnnxEmbedder(pe.export_model(model, folder / "model.onnx"), threads=torch.get_num_threads())
    side, n, rng = model.preparation.target_size, 8 * model.choose_batch_size(), np.random.default_rng(0)
    pixels = rng.integers(0, 256, (n, side, side, model.preparation.n_channels), dtype=np.uint8)
    sides = np.zeros((n, 2), dtype=np.float32)
    works = (
        lambda: model.embed_pixels(pixels, sides, precision="float32", views=1),
        lambda: embedder.embed_pixels(pixels, sides, views=1),
    )
    difference = float(np.abs(works[0]() - works[1]()).max())
    found = [[rate_per_second(work, n, model.device, 2, least=1) for work in works] for _ in range(3)]
    ours, onnx = np.median(found, axis=0)
    ratio = float(np.median([b / a for a, b in found]))
    return {"ours": ours, "onnx": onnx, "ratio": ratio, "largest_difference": difference}


def compare_precision(model: pe.EmbeddingModel, run: Path) -> dict[str, float]:
    """Compare the test images of a run, embedded in bfloat16, with the same in float32."""
    reference, test = (pe.EmbeddingTable.load(run / "vectors" / f"{split}.parquet") for split in ("train", "test"))
    found = [pe.embed(model, list(test.path), precision=name, progress=False) for name in ("float32", "bfloat16")]
    cosine = (found[0].vectors * found[1].vectors).sum(axis=1)
    classifier = pe.NeighborsClassifier().fit(reference.vectors, reference.label)
    names = [classifier.predict(table.vectors) for table in found]
    accuracy = [float((guess == test.label).mean()) for guess in names]
    return {
        "n": len(cosine),
        "median_cosine": float(np.median(cosine)),
        "least_cosine": float(cosine.min()),
        "knn_same": float((names[0] == names[1]).mean()),
        "accuracy_float32": accuracy[0],
        "accuracy_bfloat16": accuracy[1],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("images", type=Path)
    parser.add_argument("--trunk", default="inception_v3")
    parser.add_argument("--side", type=int, default=299)
    parser.add_argument("--n", type=int, default=10_000, help="images of ours")
    parser.add_argument("--rival-images", type=int, default=1000)
    parser.add_argument("--run", type=Path, help="measure the model of this run, and its precision")
    parser.add_argument("--compile", default="auto")
    parser.add_argument("--before", help="folder of an earlier version, timed too")
    parser.add_argument("--output", type=Path, help="JSON file to write")
    arguments = parser.parse_args()
    if arguments.run:
        model = pe.EmbeddingModel.load(arguments.run)
    else:
        preparation = PreparationSettings(target_size=arguments.side)
        model = pe.EmbeddingModel.build(NetworkSettings(trunk=arguments.trunk), preparation).to("auto")
    side, trunk = model.preparation.target_size, model.network.trunk
    rows, figures = [], {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        model.save(folder / "model")
        n = link_images(arguments.images, arguments.n, folder / "ours")
        n_rival = link_images(arguments.images, arguments.rival_images, folder / "rival")
        rival = ["-c", RIVAL, str(folder / "rival"), trunk, str(side), model.device.type, str(folder / "rival.npy")]
        command = ["-m", "plankton_embed", "embed", str(folder / "model"), str(folder / "ours"), "--overwrite", "-q"]

        seconds = [float(time_process(rival)[1])]
        if arguments.before:
            before, _ = time_process([*command, "-o", str(folder / "before.parquet")], arguments.before)
        ours, _ = time_process([*command, "--compile", arguments.compile, "-o", str(folder / "ours.parquet")])
        seconds.append(float(time_process(rival)[1]))
        rates = [n_rival / s for s in seconds]
        rows += [("torchvision, files to vectors", f"{rates[0]:.1f} and {rates[1]:.1f}", "1")]
        if arguments.before:
            rows += [("before, files to vectors", f"{n / before:.1f}", f"{n / before / np.mean(rates):.2f}")]
        rows += [("ours, files to vectors", f"{n / ours:.1f}", f"{n / ours / np.mean(rates):.2f}")]
        figures |= {"rival": rates, "ours": n / ours, "ratio": n / ours / float(np.mean(rates))}

        network = measure_network(model)
        rows += [("ours, network alone", f"{network['images_per_second']:.1f}", "")]
        figures["network"] = network
        paths = sorted(str(path) for path in (folder / "rival").glob("*/*"))
        prepared = prepare_images(paths, content_hashes(paths, False), model.preparation, cache=folder, progress=False)
        rate = rate_per_second(lambda: model.embed_prepared(prepared), n_rival, model.device, least=1)
        rows += [("ours, prepared images to vectors, not compiled", f"{rate:.1f}", "")]
        figures["prepared"] = rate
        onnx = compare_onnx(model, folder)
        rows += [("ours, prepared images to vectors, CPU, float32", f"{onnx['ours']:.1f}", "")]
        rows += [(f"ONNX, the same: x {onnx['ratio']:.2f} of ours", f"{onnx['onnx']:.1f}", "")]
        figures["onnx"] = onnx
        if arguments.run:
            figures["precision"] = compare_precision(model, arguments.run)
    print(f"{trunk}, {side} px, {n} images, {model.device}, {os.cpu_count()} cores")
    print(pd.DataFrame(rows, columns=["", "images/s", "x torchvision"]).to_string(index=False))
    print(
        f"matrix products in {network['precision']}: {network['matrix_tflops']:.3f} TFLOP/s; "
        f"the network reaches {network['share_of_matrix']:.2f} of that (batches of {network['batch_size']:.0f})"
    )
    if "precision" in figures:
        print("bfloat16 against float32:", {name: round(value, 5) for name, value in figures["precision"].items()})
    if arguments.output:
        arguments.output.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
