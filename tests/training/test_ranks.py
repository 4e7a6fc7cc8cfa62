"""Several processes train one model: as one process would with the same batches; and when one of them is killed."""

import json
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from typer.testing import CliRunner

import plankton_embed as pe
from plankton_embed.cli import app
from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.images.drawn import draw_set
from plankton_embed.run_folder import RunFolder
from plankton_embed.training import ranks as module
from plankton_embed.training.checkpoints import load_checkpoint
from plankton_embed.training.history import History
from plankton_embed.training.ranks import ALONE, Ranks, count_ranks, join_ranks, refuse_ranks

TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
FIVE_STEPS = """
import json, sys
from pathlib import Path
import numpy as np, torch
from plankton_embed.images.readers.source import read_source
from plankton_embed.images.store import prepare_images
from plankton_embed.network.model import EmbeddingModel
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import Settings
from plankton_embed.training.ranks import Ranks, join_ranks
from plankton_embed.training.trainer import list_norms, train_model

source, folder, variants = Path(sys.argv[1]), Path(sys.argv[2]), json.loads(sys.argv[3])
dtype, n_parts = getattr(torch, sys.argv[4]), int(sys.argv[5])
torch.set_num_threads(1)  # as torchrun has it
torch.set_default_dtype(dtype)  # of the proxies
catalog = read_source(source)
with join_ranks("cpu") as ranks:
    for name, changes in variants.items():
        settings = Settings.build(overrides={
            "preparation.target_size": 48, "network.trunk": "resnet18", "network.dimension": 16,
            "training.epochs": 1, "training.steps_per_epoch": 5, "training.classes_per_batch": 3,
            "training.batch_images_per_class": 5, "training.precision": "float32", "training.learning_rate": 1e-3,
            **changes,
        })
        images = None
        if ranks.is_first:
            images = prepare_images(catalog.paths, catalog.paths, settings.preparation, progress=False)
        images = ranks.share(images)
        class_index = np.unique(np.array(catalog.labels, dtype=str), return_inverse=True)[1]
        model = EmbeddingModel.build(settings.network, settings.preparation, settings.seed).to("cpu")
        net = model.net.to(dtype)
        for norm in list_norms(net):
            norm.eval()
            norm.train = lambda mode=True: None

        def embed_parts(pixels, sides, trunk=None):
            vectors = torch.empty(len(pixels), model.dimension)
            for part in (Ranks(number, n_parts).own for number in range(n_parts)):
                features = net.trunk((pixels[part].to(dtype) - net.mean) / net.std)
                vectors[part] = net.scale_output(net.head(features))
            return vectors

        net.forward = embed_parts
        run = RunFolder(folder / name / str(ranks.rank))
        history = train_model(model, images, class_index, settings, run, ranks=ranks, progress=False)
        assert len(history) == 1
        torch.save(net.state_dict(), folder / name / f"weights_{ranks.rank}.pt")
"""
VARIANTS = {
    "triplet": {"training.objective": "triplet"},
    "proxies": {"training.objective": "normalized_softmax"},
    "memory": {"training.objective": "triplet", "training.memory": 30, "training.warmup": 0.0},
    "scheduled": {"training.objective": "scheduled", "training.proxy_share": 0.5},
}
VARIANTS = {
    f"{name}, {optimizer}": {**changes, "training.optimizer": optimizer}
    for name, changes in VARIANTS.items()
    for optimizer in ("sgd", "adamw")
}
TRAIN = {
    "network.weights": "none",
    "network.trunk": "shufflenet_v2_x0_5",
    "network.dimension": 8,
    "network.dropout": 0.2,
    "preparation.target_size": 64,
    "training.epochs": 4,
    "training.images_per_class": 8,
    "training.classes_per_batch": 2,
    "training.batch_images_per_class": 4,
    "training.checkpoint_minutes": 0,
}


def run_in(n, *command, **options):
    """Run a command in n processes; the output and errors are returned with the exit code."""
    start = [*TORCHRUN, str(n)] if n > 1 else [sys.executable]
    return subprocess.run([*start, *map(str, command)], capture_output=True, text=True, check=False, **options)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("drawn") / "images"
    return draw_set(folder, n_per_class=10, classes=("copepod", "fish_egg", "medusa"))


# ------------------------------------------------------------------------------------------ what a process does alone


@pytest.mark.parametrize("size", [1, 2, 3, 7])
def test_the_parts_of_a_batch_are_all_of_it_once_and_nearly_equal(size):
    parts = [np.arange(16)[Ranks(rank, size).own] for rank in range(size)]
    assert sorted(np.concatenate(parts)) == list(range(16))
    assert max(map(len, parts)) - min(map(len, parts)) <= 1
    classes = [np.repeat(np.arange(4), 4)[Ranks(rank, size).own] for rank in range(size)]
    assert size > 2 or all(len(set(own)) == 4 for own in classes)  # each has images of all classes


def test_one_process_exchanges_nothing():
    vectors, net = torch.rand(3, 2, requires_grad=True), torch.nn.Linear(2, 2)
    before = torch.get_rng_state()
    assert ALONE.gather(vectors, 3) is vectors
    assert ALONE.share(net) is net
    assert ALONE.ask_first(lambda: net) is net
    assert ALONE.combine(net, net, loss := vectors.sum()) is loss
    ALONE.seed_step(1, 2)
    ALONE.copy_from_first(net)
    ALONE.wait_for_all()
    ALONE.check_batch(1)
    assert torch.equal(torch.get_rng_state(), before)
    with join_ranks("cpu") as ranks:
        assert ranks is ALONE


def test_dropout_differs_between_processes_and_steps_and_is_the_same_again():
    drawn = {}
    for step in (4, 5):
        for rank in (0, 1):
            Ranks(rank, 2).seed_step(0, 1, step)
            drawn[rank, step] = torch.rand(5)
            Ranks(rank, 2).seed_step(0, 1, step)
            assert torch.equal(torch.rand(5), drawn[rank, step])
    assert len({tuple(values.tolist()) for values in drawn.values()}) == 4


def test_a_batch_too_small_for_the_processes_is_refused():
    Ranks(0, 4).check_batch(8)
    with pytest.raises(SettingError, match=r"batches of 7 images are too small for 4 processes.*start at most 3"):
        Ranks(0, 4).check_batch(7)


def test_a_fault_of_the_exchange_becomes_an_error_with_what_to_do():
    message = r"process 2 of 3: another process .* has ended.*--resume"
    with pytest.raises(PlanktonEmbedError, match=message), Ranks(1, 3)._explain():
        raise RuntimeError("Connection closed by peer")


def test_prepared_images_are_given_to_another_process_as_a_file_name(images):
    shared = pickle.dumps(images)
    assert len(shared) < images.pixels.nbytes / 4
    opened = pickle.loads(shared)
    assert np.array_equal(opened.pixels, images.pixels) and np.array_equal(opened.rows, images.rows)
    gone = pickle.dumps(images).replace(b"pixels.npy", b"nixels.npy")
    with pytest.raises(PlanktonEmbedError, match="PLANKTON_EMBED_CACHE"):
        pickle.loads(gone)


# ------------------------------------------------------------------------------------------ what torchrun may start


@pytest.fixture
def started_by_torchrun(monkeypatch):
    monkeypatch.setenv("RANK", "0")
    monkeypatch.setenv("WORLD_SIZE", "4")


def test_torchrun_is_recognized(monkeypatch):
    assert count_ranks() == 1
    monkeypatch.setenv("WORLD_SIZE", "4")  # some clusters set it for every job
    assert count_ranks() == 1
    monkeypatch.setenv("RANK", "1")
    assert count_ranks() == 4


def test_only_train_runs_in_several_processes(started_by_torchrun, tmp_path):
    calls = {
        "run": lambda: pe.run(tmp_path, tmp_path / "out"),
        "demo": lambda: pe.demo(tmp_path / "out"),
        "compare": lambda: pe.compare(tmp_path, tmp_path / "out"),
        "seen-unseen": lambda: pe.seen_unseen(tmp_path, tmp_path / "out"),
        "embed": lambda: refuse_ranks("embed"),
    }
    for name, call in calls.items():
        with pytest.raises(SettingError, match=rf"{name} runs in one process; torchrun has started 4"):
            call()
    done = CliRunner().invoke(app, ["embed", "isiis-resnet18", str(tmp_path), "-o", str(tmp_path / "v.parquet")])
    assert done.exit_code == 2 and "torchrun --nproc-per-node 4 -m plankton_embed train" in done.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("device", "n_gpus", "message"), [
    ("mps", 0, "expected cpu or cuda with several processes; found mps"),
    ("cuda:1", 2, "found cuda:1"),
    ("auto", 2, "expected a GPU for each process of a machine; found 2 GPUs"),
])  # fmt: skip
def test_a_device_that_the_processes_cannot_share_is_refused(device, n_gpus, message, started_by_torchrun, monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: n_gpus > 0)
    monkeypatch.setattr(module.torch.cuda, "device_count", lambda: n_gpus)
    with pytest.raises(SettingError, match=message), join_ranks(device):
        pass


def test_without_a_gpu_all_compute_on_the_processor(started_by_torchrun, monkeypatch):
    monkeypatch.setattr(module.torch.cuda, "is_available", lambda: False)
    assert module._choose_device("auto") == "cpu"  # and not mps, whose numbers Gloo does not exchange


# ------------------------------------------------------------------------------------------ two processes


def train_five_steps(source, folder, n, dtype, n_parts=1):
    """Train every variant in n processes, each of which embeds its images of a batch in parts.

    Batch norms are in eval mode, and there is no dropout; batches are of 15 images, so that the parts of two differ.
    """
    folder.mkdir()
    script = folder / "five_steps.py"
    script.write_text(FIVE_STEPS)
    done = run_in(n, script, source, folder, json.dumps(VARIANTS), dtype, n_parts)
    assert done.returncode == 0, done.stderr


def load_results(folder):
    """Return the weights of each process, and of the first the loss, the share of active triplets and the moments.

    The moments are the sums of gradients that the optimizer has: of AdamW that of their squares, too.
    """
    weights = [torch.load(path) for path in sorted(folder.glob("weights_*.pt"))]
    run = RunFolder(folder / "0")
    (record,) = History.load(run.history).records
    (path,) = run.checkpoints.glob("state-*.pt")
    moments = load_checkpoint(path)["optimizer"]["state"]
    return weights, (record.loss, record.active_share), moments


@pytest.mark.slow
def test_two_processes_learn_what_one_does(source, tmp_path):
    """In float64: in float32, parts are rounded otherwise than the whole batch, and AdamW makes steps of that."""
    one, two = (tmp_path / name for name in ("one", "two"))
    train_five_steps(source, one, 1, "float64")
    train_five_steps(source, two, 2, "float64")
    for variant in VARIANTS:
        (whole,), loss, moments = load_results(one / variant)
        (first, second), loss_of_two, moments_of_two = load_results(two / variant)
        for name, a in whole.items():
            assert torch.equal(first[name], second[name]), (variant, name)
            if a.is_floating_point():
                assert a.dtype == torch.float64 and (a - first[name]).abs().max() <= 1e-12, (variant, name)
        for number, values in moments.items():
            for name, a in values.items():
                b = moments_of_two[number][name]
                assert (a - b).abs().max() <= 1e-12 * a.abs().max(), (variant, number, name)
        assert loss == pytest.approx(loss_of_two, rel=1e-12), variant
        assert not list((two / variant).glob("1/*"))  # the second writes nothing


@pytest.mark.slow
def test_two_processes_compute_the_bits_of_one_that_embeds_the_same_parts(source, tmp_path):
    whole, in_parts, two = (tmp_path / name for name in ("whole", "in_parts", "two"))
    train_five_steps(source, whole, 1, "float32")
    train_five_steps(source, in_parts, 1, "float32", n_parts=2)
    train_five_steps(source, two, 2, "float32")
    for variant in VARIANTS:
        (of_whole,), _, _ = load_results(whole / variant)
        (one,), loss, moments = load_results(in_parts / variant)
        (first, second), loss_of_two, moments_of_two = load_results(two / variant)
        assert loss == loss_of_two, variant
        for name, a in one.items():
            assert torch.equal(a, first[name]) and torch.equal(a, second[name]), (variant, name)
            assert not variant.endswith("sgd") or (a - of_whole[name]).abs().max() <= 1e-6, (variant, name)
        for number, values in moments.items():
            assert all(torch.equal(a, moments_of_two[number][name]) for name, a in values.items()), (variant, number)


def start(source, folder, n, *more):
    """Start `train` in n processes."""
    command = ["-m", "plankton_embed", "train", str(source), "-o", str(folder), "--device", "cpu"]
    if "--preset" not in more:
        command += ["--preset", "cpu"]
        command += [part for name, value in TRAIN.items() for part in ("--set", f"{name}={value}")]
    begin = [*TORCHRUN, str(n)] if n > 1 else [sys.executable]
    return subprocess.Popen([*begin, *command, *more], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def find_rank(agent, rank):
    """Return the number of the process of torchrun that is this rank."""
    children = [Path(path).read_text().split() for path in Path(f"/proc/{agent}/task").glob("*/children")]
    for child in (int(number) for numbers in children for number in numbers):
        if f"RANK={rank}" in Path(f"/proc/{child}/environ").read_text().split("\0"):
            return child
    raise AssertionError("not there")


def kill_during_training(process, folder, rank):
    """Kill a rank when a state of the second epoch or later was written by this process."""
    before = states = set(RunFolder(folder).checkpoints.glob("state-0000[2-9]-*"))
    while states <= before:
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
        states = set(RunFolder(folder).checkpoints.glob("state-0000[2-9]-*"))
    os.kill(find_rank(process.pid, rank), signal.SIGKILL)
    return process.communicate(timeout=120)[1]


@pytest.mark.slow
@pytest.mark.parametrize(("n", "more", "message"), [
    (5, [], "batches of 8 images are too small for 5 processes"),
    (2, ["--preset", "instant"], "network.frozen (preset instant): the head is computed by one process"),
    (2, ["--resume"], "contains no run to resume"),
])  # fmt: skip
def test_what_all_processes_refuse_is_reported_once(source, tmp_path, n, more, message):
    errors = start(source, tmp_path / "run", n, *more).communicate()[1]
    said = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert len(said) == 1 and message in said[0], errors


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="the processes of torchrun are found in /proc")
def test_a_killed_process_ends_the_others_with_a_word_and_the_run_resumes(source, tmp_path):
    whole, killed, with_one = (tmp_path / name for name in ("whole", "killed", "with_one"))
    process = start(source, whole, 2)
    printed, errors = process.communicate()
    assert process.returncode == 0, errors
    assert printed.count("images of the test split") == 1  # one writer, one voice
    assert errors.count("epoch 1/4") == 1

    for rank in (1, 0):
        process = start(source, killed, 2, *(["--resume"] if killed.exists() else []))
        errors = kill_during_training(process, killed, rank)
        assert process.returncode != 0
        said = [line for line in errors.splitlines() if line.startswith("error: ")]
        assert len(said) == 1 and f"process {2 - rank} of 2" in said[0] and "--resume" in said[0], errors
    assert not (killed / "model").exists()
    shutil.copytree(killed, with_one)

    process = start(source, killed, 2, "--resume")
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    first, second = (safetensors.torch.load_file(folder / "model" / "model.safetensors") for folder in (whole, killed))
    assert all(torch.equal(first[name], second[name]) for name in first)

    process = start(source, with_one, 1, "--resume")
    errors = process.communicate()[1]
    assert process.returncode == 0, errors
    assert len(History.load(RunFolder(with_one).history)) == 4


@pytest.mark.slow
def test_a_process_that_does_not_answer_ends_the_others(tmp_path):
    script = tmp_path / "stuck.py"
    script.write_text(
        "import time, torch\n"
        "from plankton_embed.training import ranks\n"
        "ranks.STEP_SECONDS = 3\n"
        "with ranks.join_ranks('cpu') as joined:\n"
        "    if joined.rank:\n"
        "        time.sleep(1000)\n"
        "    time.sleep(5)\n"  # longer than a step may take: the others wait for the first as long as it needs
        "    joined.gather(torch.zeros(1, 2), 2)\n"
    )
    begun = time.monotonic()
    done = run_in(2, script)
    assert done.returncode != 0 and time.monotonic() - begun < 100
    assert "process 1 of 2: another process of this training has ended, or has not answered" in done.stderr


@pytest.mark.slow
def test_others_wait_for_the_first_longer_than_a_step_may_take(tmp_path):
    script = tmp_path / "patient.py"
    script.write_text(
        "import time\n"
        "from plankton_embed.training import ranks\n"
        "ranks.STEP_SECONDS = 3\n"
        "with ranks.join_ranks('cpu') as joined:\n"
        "    if joined.is_first:\n"
        "        time.sleep(8)\n"
        "    assert joined.share(joined.rank + 5) == 5\n"
    )
    done = run_in(2, script)
    assert done.returncode == 0, done.stderr
