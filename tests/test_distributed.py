"""Jobs on Ray: which workers are planned, and that no row is lost or repeated when processes are killed.

Where Ray starts, a test is slow.
"""

import os
import signal
import socket
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pandas as pd
import pytest

import plankton_embed as pe
from plankton_embed import distributed
from plankton_embed.distributed import plan_workers, run_job
from plankton_embed.errors import DependencyError, InputError, PlanktonEmbedError, SettingError
from plankton_embed.jobs import Job, count_repeated, read_log


def nodes(*counts):
    return [{"CPU": cpus, **({"GPU": gpus} if gpus else {})} for cpus, gpus in counts]


@pytest.mark.parametrize(
    ("machines", "n_workers", "device", "planned"),
    [
        (nodes((2, 0)), None, "auto", (1, 2, 0)),  # the cores of each machine, not of the one that is asked
        (nodes((2, 0)), 2, "auto", (2, 1, 0)),
        (nodes((64, 0), (32, 0)), None, "auto", (24, 4, 0)),
        (nodes((64, 0), (6, 0)), None, "cpu", (17, 4, 0)),
        (nodes((3, 0), (3, 0)), 2, "auto", (2, 3, 0)),
        (nodes((3, 0), (3, 0)), 3, "auto", (3, 1, 0)),  # 2 + 1 would not fit with 2 cores each
        (nodes((16, 2), (64, 8), (8, 0)), None, "auto", (10, 8, 1)),
        (nodes((16, 2)), 4, "cuda", (4, 4, 0.5)),  # two share a GPU
        (nodes((16, 2)), 1, "auto", (1, 8, 1)),
        (nodes((16, 2)), None, "cpu", (4, 4, 0)),
    ],
)
def test_workers_are_planned_by_the_machines(machines, n_workers, device, planned):
    assert plan_workers(machines, n_workers, device) == planned


def test_workers_that_cannot_be():
    with pytest.raises(SettingError, match="at most one for each of 4 cores; found 5"):
        plan_workers(nodes((2, 0), (2, 0)), 5, "auto")
    with pytest.raises(SettingError, match="at least 1; found 0"):
        plan_workers(nodes((2, 0)), 0, "auto")
    with pytest.raises(SettingError, match="a cluster with GPUs"):
        plan_workers(nodes((2, 0)), None, "cuda")


def test_without_ray_one_error_names_the_extra(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    job = Job.open(tmp_path / "out", {}, 1)
    with pytest.raises(
        DependencyError, match=r"--engine ray needs the extra scale: pip install 'plankton_embed\[scale\]'"
    ):
        run_job(job, None, lambda numbers: iter([(0, "a")]), [1], "x", engine="ray", progress=False)
    Job.open(tmp_path / "done", {}, 0)  # nothing to do needs no Ray
    run_job(Job.open(tmp_path / "done", {}, 0), None, lambda numbers: iter(()), [], "x", engine="ray", progress=False)


@pytest.fixture(scope="module")
def cluster():
    """A cluster of this machine, for all tests of this file."""
    ray = pytest.importorskip("ray", reason="ray is not installed (extra scale)")
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    ray.init("local", num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    yield ray
    ray.shutdown()


def make_work(folder, deadly=(), wrong=(), always=()):
    """Return work that writes a row for each part; at some parts its process is killed, once or always."""

    class Work:  # inside a function, so that it is copied to the workers
        def start(self, device):
            self.device = device

        def __call__(self, part, path):
            marker = folder / f"killed-{part}"
            if part in always or (part in deadly and not marker.exists()):
                marker.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            if part in wrong and not marker.exists():
                marker.touch()
                raise InputError(f"part {part} is wrong")
            time.sleep(0.05)
            pd.DataFrame({"part": [part], "cores": [os.environ["PLANKTON_EMBED_CORES"]]}).to_parquet(path)

    return Work()


def run(job, work, **options):
    sizes = [1] * job.n_parts
    options = {"engine": "ray", "n_workers": 2, "progress": False, **options}
    run_job(job, work, lambda numbers: ((number, number) for number in numbers), sizes, "x", **options)


@pytest.mark.slow
def test_killed_workers_cost_no_part_and_repeat_none(cluster, tmp_path, caplog):
    job = Job.open(tmp_path / "out", {}, 12)
    run(job, make_work(tmp_path, deadly=(0, 5, 11)))
    assert [pd.read_parquet(job.part(number))["part"].item() for number in range(12)] == list(range(12))
    events = read_log(job.folder)
    begun = Counter(part for _, event, part, _ in events if event == "begun")
    assert [begun[f"part-{number:06d}.parquet"] for number in range(12)] == [2, 1, 1, 1, 1, 2, 1, 1, 1, 1, 1, 2]
    assert count_repeated(events) == 0
    assert caplog.text.count("which another one works on") == 3
    assert set(pd.read_parquet(job.part(3))["cores"]) == {"1"}


@pytest.mark.slow
def test_an_error_of_the_work_is_that_of_the_job_which_continues(cluster, tmp_path):
    job, work = Job.open(tmp_path / "out", {}, 8), make_work(tmp_path, wrong=(4,))
    with pytest.raises(InputError, match="part 4 is wrong") as caught:
        run(job, work)
    assert type(caught.value) is InputError
    n_there = 8 - len(job.missing())
    assert n_there < 8
    run(job, work)
    assert job.missing() == [] and count_repeated(read_log(job.folder)) == 0
    assert sum(event == "written" for _, event, _, _ in read_log(job.folder)) == 8


@pytest.mark.slow
def test_a_part_that_ends_every_worker_is_an_error(cluster, tmp_path):
    job = Job.open(tmp_path / "out", {}, 4)
    with pytest.raises(PlanktonEmbedError, match="4 workers of Ray ended while they worked on part 2"):
        run(job, make_work(tmp_path, always=(2,)))
    assert sum(event == "begun" for _, event, part, _ in read_log(job.folder) if "2" in part) == 4


@pytest.mark.slow
def test_workers_that_cannot_start_are_an_error(cluster, tmp_path):
    work = make_work(tmp_path)

    class Broken(type(work)):
        def start(self, device):
            raise InputError("no such device")

    with pytest.raises(PlanktonEmbedError, match=r"cannot start(.|\n)*no such device"):
        run(Job.open(tmp_path / "out", {}, 2), Broken())


def test_a_cluster_that_has_ended_is_left_alone(tmp_path, monkeypatch, caplog):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    noted = tmp_path / "ray_current_cluster"
    monkeypatch.setattr(distributed, "CURRENT_CLUSTER", noted)
    assert distributed._find_cluster(None) is None
    assert distributed._find_cluster("local") == "local"
    noted.write_text("127.0.0.1:1\n")
    assert distributed._find_cluster(None) == "local"
    assert "(127.0.0.1:1) does not answer" in caplog.text
    assert distributed._find_cluster("local") == "local"
    with socket.create_server(("127.0.0.1", 0)) as server:
        noted.write_text(f"127.0.0.1:{server.getsockname()[1]}")
        assert distributed._find_cluster(None) is None
        assert distributed._find_cluster("auto") == "auto"
    with pytest.raises(OSError, match="refused"):
        distributed._find_cluster("127.0.0.1:1")
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(OSError, match="refused"):
        distributed._find_cluster(None)


@pytest.mark.slow
def test_a_cluster_that_is_not_there_is_an_error(tmp_path):
    ray = pytest.importorskip("ray", reason="ray is not installed (extra scale)")
    if ray.is_initialized():
        ray.shutdown()
    with pytest.raises(PlanktonEmbedError, match=r"cannot connect to Ray at 127\.0\.0\.1:1:"):
        run(Job.open(tmp_path / "out", {}, 1), make_work(tmp_path), address="127.0.0.1:1")


@pytest.mark.slow
def test_vectors_and_predictions_are_those_of_one_process(cluster, in_pixels, drawn_folder, tmp_path):
    catalog = pe.catalog(drawn_folder, progress=False)
    wanted = pe.embed(in_pixels, catalog, tmp_path / "one", part_size=10, progress=False)
    found = pe.embed(in_pixels, catalog, tmp_path / "many", part_size=10, engine="ray", n_workers=2, progress=False)
    assert found.object_id.tolist() == wanted.object_id.tolist() == catalog.frame["object_id"].tolist()
    vectors, own = found.load().vectors, wanted.load().vectors
    cosine = (vectors * own).sum(axis=1) / np.linalg.norm(vectors, axis=1) / np.linalg.norm(own, axis=1)
    assert cosine.min() > 0.9999
    assert next(in_pixels.net.parameters()).device.type == "cpu"

    reference, calibration = wanted.load().select(np.arange(len(wanted)) % 3 > 0), wanted.load()
    for method in ("centroid", "knn", "mlp"):
        given = {"calibration": calibration, "unknown_rate": 0.2, "progress": False}
        one = pe.classify(reference, found, method, tmp_path / f"one {method}", **given)
        many = pe.classify(reference, found, method, tmp_path / f"many {method}", engine="ray", n_workers=2, **given)
        pd.testing.assert_frame_equal(many.counts, one.counts)
        for path in sorted(one.output.glob("*.parquet")):
            left, right = (pd.read_parquet(folder / path.name) for folder in (one.output, many.output))
            pd.testing.assert_frame_equal(left, right, rtol=1e-5)


SCRIPT = """
import sys, time, os
import pandas as pd
from plankton_embed.distributed import run_job
from plankton_embed.jobs import Job

class Work:
    def start(self, device):
        pass
    def __call__(self, part, path):
        time.sleep(.3)
        pd.DataFrame({"part": [part]}).to_parquet(path)

if __name__ == "__main__":
    job = Job.open(sys.argv[1], {}, 20)
    parts = lambda numbers: ((number, number) for number in numbers)
    run_job(job, Work(), parts, [1] * 20, "x", engine="ray", n_workers=2, address="local", progress=False)
    job.finish()
"""


@pytest.mark.slow
def test_a_killed_driver_costs_what_was_not_written(tmp_path):
    pytest.importorskip("ray", reason="ray is not installed (extra scale)")
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(SCRIPT)
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0"}
    driver = subprocess.Popen([sys.executable, script, out], env=environment)
    end = time.monotonic() + 300
    while len(list(out.glob("part-*.parquet"))) < 4:
        assert driver.poll() is None and time.monotonic() < end
        time.sleep(0.05)
    driver.kill()
    driver.wait()
    with pytest.raises(InputError, match="not complete"):
        pe.VectorShards.open(out)
    n_there = len(list(out.glob("part-*.parquet")))
    assert n_there < 20
    subprocess.run([sys.executable, script, out], check=True, env=environment)
    events = read_log(out)
    assert [pd.read_parquet(path)["part"].item() for path in sorted(out.glob("part-*.parquet"))] == list(range(20))
    assert count_repeated(events) == 0
    assert not list(out.glob(".part-*"))


TWO_MACHINES = """
import sys, threading, time
import pandas as pd
import ray
from ray.cluster_utils import Cluster
from plankton_embed.distributed import run_job
from plankton_embed.jobs import Job

class Work:
    def start(self, device):
        pass
    def __call__(self, part, path):
        time.sleep(.3)
        node = ray.get_runtime_context().get_node_id()
        pd.DataFrame({"part": [part], "node": [node]}).to_parquet(path)

if __name__ == "__main__":
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1})
    node = cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    job = Job.open(sys.argv[1], {}, 20)

    def end():
        while len(job.missing()) > 14:
            time.sleep(.05)
        cluster.remove_node(node, allow_graceful=False)

    threading.Thread(target=end, daemon=True).start()
    parts = lambda numbers: ((number, number) for number in numbers)
    run_job(job, Work(), parts, [1] * 20, "x", engine="ray", n_workers=2, address=cluster.address, progress=False)
    job.finish()
"""


@pytest.mark.slow
def test_a_machine_that_ends_costs_no_part(tmp_path):
    """There is no room for a new worker in its place: the other machine does the rest."""
    pytest.importorskip("ray", reason="ray is not installed (extra scale)")
    script, out = tmp_path / "script.py", tmp_path / "out"
    script.write_text(TWO_MACHINES)
    subprocess.run([sys.executable, script, out], check=True, env={**os.environ, "RAY_USAGE_STATS_ENABLED": "0"})
    parts = pd.concat([pd.read_parquet(path) for path in sorted(out.glob("part-*.parquet"))])
    assert parts["part"].tolist() == list(range(20))
    assert parts["node"].nunique() == 2 and parts["node"].iloc[-8:].nunique() == 1
    assert count_repeated(read_log(out)) == 0
