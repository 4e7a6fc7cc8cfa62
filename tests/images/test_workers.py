"""Work on many images: the same results in the same order from threads and from processes."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from plankton_embed.errors import PlanktonEmbedError, SettingError
from plankton_embed.images import workers
from plankton_embed.images.store import prepare_images
from plankton_embed.images.workers import map_chunks, map_images
from plankton_embed.settings import PreparationSettings


def double(chunk):
    return [2 * int(item) for item in chunk], os.getpid()


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="Linux only")
def test_cores_are_those_that_this_process_may_use():
    allowed = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(allowed)})
    try:
        assert workers.count_cores() == 1
    finally:
        os.sched_setaffinity(0, allowed)
    assert workers.count_cores() == len(allowed)


def test_cores_may_be_shared_out_by_another_program(monkeypatch):
    monkeypatch.setenv(workers.CORES, "3")
    assert workers.count_cores() == 3
    for wrong in ("0", "two", "-1"):
        monkeypatch.setenv(workers.CORES, wrong)
        with pytest.raises(SettingError, match=f"PLANKTON_EMBED_CORES: expected a number of cores.*{wrong}"):
            workers.count_cores()


def test_results_come_chunk_by_chunk_in_order():
    parts = list(map_chunks(double, [str(n) for n in range(10)], size=4))
    assert [part for part, _ in parts] == [[0, 2, 4, 6], [8, 10, 12, 14], [16, 18]]
    assert {process for _, process in parts} == {os.getpid()}


@pytest.fixture
def processes(monkeypatch):
    monkeypatch.setattr(workers, "MANY", 1)
    monkeypatch.setattr(workers, "CHUNK", 3)


def test_many_files_are_worked_on_in_processes_in_order(processes):
    parts = list(map_chunks(double, [str(n) for n in range(10)]))
    assert [value for part, _ in parts for value in part] == list(range(0, 20, 2))
    assert os.getpid() not in {process for _, process in parts}


def test_images_in_memory_stay_in_this_process(processes):
    assert (
        map_images(lambda image: (image.size, os.getpid()), [Image.new("L", (3, 4))] * 5, "looking", False)
        == [((3, 4), os.getpid())] * 5
    )


def test_a_fault_in_a_process_is_raised_here(processes):
    with pytest.raises(ValueError, match="invalid literal for int"):
        list(map_chunks(double, ["1", "two", "3"]))


def read(chunk):
    return [Path(item).read_text() for item in chunk]


def test_processes_read_relative_paths_in_the_folder_that_is_current_now(processes, tmp_path, monkeypatch):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
        monkeypatch.chdir(tmp_path / name)
        assert list(map_chunks(read, ["file"])) == [[name]]


def kill_itself(chunk):
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_process_that_is_killed_is_one_clear_error_and_the_next_call_works(processes):
    with pytest.raises(PlanktonEmbedError, match="a process that works on images was ended from outside"):
        list(map_chunks(kill_itself, ["1", "2"]))
    assert [part for part, _ in map_chunks(double, ["1", "2"])] == [[2, 4]]


def in_a_process(queue):
    queue.put([part for part, _ in map_chunks(double, ["1", "2"])])


@pytest.mark.parametrize("method", ["fork", "spawn"])
@pytest.mark.skipif(os.name == "nt", reason="Windows has no fork")
def test_processes_of_the_user_work_in_threads_and_do_not_hang(processes, method):
    list(map_chunks(double, ["1", "2"]))  # processes exist already
    context = multiprocessing.get_context(method)
    queue = context.Queue()
    process = context.Process(target=in_a_process, args=(queue,), daemon=True)
    process.start()
    try:
        assert queue.get(timeout=60) == [[2, 4]]
    finally:
        process.kill()


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_output_is_no_error(processes, monkeypatch, closed):
    monkeypatch.setattr(sys, closed, None)
    assert {process for _, process in map_chunks(double, ["1", "2"])} == {os.getpid()}


def test_a_single_core_needs_no_other_process(processes, monkeypatch):
    monkeypatch.setenv(workers.CORES, "1")
    assert {process for _, process in map_chunks(double, ["1", "2"])} == {os.getpid()}


def test_processes_prepare_the_same_pixels_and_the_same_faults(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    paths = [str(tmp_path / f"{number}.png") for number in range(20)]
    for number, path in enumerate(paths):
        Image.fromarray(rng.integers(0, 256, (20 + number % 7, 30), dtype=np.uint8)).save(path)
    (tmp_path / "5.png").write_text("text")
    settings = PreparationSettings(target_size=75, white_level_16bit=255)
    by_threads = prepare_images(paths, paths, settings, cache=tmp_path / "threads", progress=False)
    monkeypatch.setattr(workers, "MANY", 1)
    by_processes = prepare_images(paths, paths, settings, cache=tmp_path / "processes", progress=False)
    assert by_processes.faults == by_threads.faults == {5: "the file is not an image of a known format"}
    for name in ("pixels", "background", "size"):
        np.testing.assert_array_equal(getattr(by_processes, name), getattr(by_threads, name))
