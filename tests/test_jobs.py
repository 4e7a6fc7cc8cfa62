"""Jobs in parts: begun, stopped, continued; what they refuse, and what they never delete."""

import logging
import shutil
import time

import pytest

from plankton_embed import jobs as jobs_module
from plankton_embed.errors import OutputError, SettingError
from plankton_embed.jobs import (
    Job,
    PartDone,
    WarningCounts,
    check_folder_options,
    count_repeated,
    do_part,
    read_log,
    refuse_overlap,
    wait_for,
    work_here,
)
from plankton_embed.shards import read_job


class Writer:
    """Writes the part as text; stops at a part of the name `stop`."""

    def start(self, device):
        self.device = device

    def __call__(self, part, path):
        logging.getLogger("plankton_embed.x").warning("%s has a fault", part)
        if part == "stop":
            raise KeyboardInterrupt
        path.write_text(part)


def run(job, names):
    parts = [(number, names[number]) for number in job.missing()]
    return [done.number for done in work_here(Writer(), parts, job, "cpu")]


def test_a_stopped_job_is_continued_with_what_is_missing(tmp_path):
    folder = tmp_path / "deep" / "out"
    job = Job.open(folder, {"command": "x", "n": 3}, 3)
    with pytest.raises(KeyboardInterrupt):
        run(job, ["a", "stop", "c"])
    assert read_job(folder)["complete"] is False
    with pytest.raises(OutputError, match="2 of 3 parts are missing, such as 1"):
        job.finish()
    again = Job.open(folder, {"n": 3, "command": "x"}, 3)
    assert run(again, ["other", "b", "c"]) == [1, 2]
    (folder / ".part-000001.parquet.abc").mkdir()  # of a process that was killed
    again.finish(n_rows=7)
    inputs = {"command": "x", "n": 3}
    assert read_job(folder) == {"id": job.id, "complete": True, "inputs": inputs, "n_parts": 3, "n_rows": 7}
    assert [job.part(number).read_text() for number in range(3)] == ["a", "b", "c"]
    assert not list(folder.glob(".*"))
    events = read_log(folder)
    assert [event for _, event, _, _ in events] == ["begun", "written", "begun", "begun", "written", "begun", "written"]
    assert count_repeated(events) == 0
    assert run(Job.open(folder, {"command": "x", "n": 3}, 3), "abc") == []


def test_a_part_that_is_lost_later_makes_the_job_incomplete(tmp_path):
    job = Job.open(tmp_path / "out", {}, 2)
    run(job, "ab")
    job.finish()
    job.part(1).unlink()
    assert Job.open(tmp_path / "out", {}, 2).missing() == [1]
    assert read_job(tmp_path / "out")["complete"] is False


def test_other_inputs_are_refused(tmp_path):
    Job.open(tmp_path / "out", {"model": "m", "views": 1}, 2)
    with pytest.raises(OutputError, match=r"other inputs.*model \(before: m; now: k\)"):
        Job.open(tmp_path / "out", {"model": "k", "views": 1}, 2)
    with pytest.raises(OutputError, match=r"n_parts \(before: 2; now: 3\)"):
        Job.open(tmp_path / "out", {"model": "m", "views": 1}, 3)


def test_overwrite_deletes_the_parts_of_a_job_alone(tmp_path):
    folder = tmp_path / "out"
    run(Job.open(folder, {"n": 1}, 2), "ab")
    kept = [folder / "notes.txt", folder / "part-x.parquet", folder / "mine.parquet"]
    for path in kept:
        path.write_text("mine")
    job = Job.open(folder, {"n": 2}, 1, overwrite=True)
    assert sorted(path.name for path in folder.iterdir()) == sorted(["job.json", *(path.name for path in kept)])
    assert job.missing() == [0]
    (folder / "job.json").unlink()
    with pytest.raises(OutputError, match=r"contains no job\.json"):
        Job.open(folder, {"n": 2}, 1, overwrite=True)
    with pytest.raises(OutputError, match="is a file"):
        Job.open(kept[0], {}, 1)


def test_two_commands_do_not_work_on_one_folder(tmp_path):
    folder, other = tmp_path / "out", tmp_path / "notes"
    with Job.alone(folder, {"views": 1}, 2) as job:
        run(job, "ab")
        for overwrite in (False, True):
            with (
                pytest.raises(OutputError, match="is being written by another program"),
                Job.alone(folder, {"views": 2}, 2, overwrite=overwrite),
            ):
                pass
        assert job.missing() == []
    with Job.alone(folder, {"views": 2}, 2, overwrite=True) as job:
        assert job.missing() == [0, 1]
    other.mkdir()
    (other / "mine.txt").touch()
    with pytest.raises(OutputError, match=r"contains no job\.json"), Job.alone(other, {}, 1):
        pass
    assert [path.name for path in other.iterdir()] == ["mine.txt"]


def test_an_output_does_not_overlap_with_the_inputs(tmp_path):
    (tmp_path / "images" / "a").mkdir(parents=True)
    (tmp_path / "run").mkdir()
    (tmp_path / "catalog.csv").touch()
    (tmp_path / "link").symlink_to(tmp_path / "images")
    refuse_overlap(tmp_path / "out", [tmp_path / "images", tmp_path / "catalog.csv", object(), None, "gone"])
    refuse_overlap(tmp_path / "run" / "vectors", [tmp_path / "images"], [tmp_path / "run"])
    for output, source in (("images", "images"), ("images/a/out", "images"), ("images", "images/a"), ("link", "images"),
                           (".", "catalog.csv")):  # fmt: skip
        with pytest.raises(OutputError, match="overlap"):
            refuse_overlap(tmp_path / output, [tmp_path / source])
    with pytest.raises(OutputError, match="overlap"):
        refuse_overlap(tmp_path, [], [tmp_path / "run"])


def test_options_of_folders_are_for_folders():
    plain = {"engine": "local", "address": None, "n_workers": None, "part_size": None}
    assert check_folder_options("out", plain) and not check_folder_options("out.csv", plain)
    assert not check_folder_options(None, plain)
    assert check_folder_options("out", {**plain, "part_size": 5})
    for given, message in (({"engine": "ray"}, "engine: it applies to a folder"), ({"part_size": 5}, "part_size: it")):
        with pytest.raises(SettingError, match=message):
            check_folder_options("out.csv", {**plain, **given})
    with pytest.raises(SettingError, match="address, n_workers: it applies to the engine ray"):
        check_folder_options("out", {**plain, "address": "auto", "n_workers": 2})
    with pytest.raises(SettingError, match="found 'spark'"):
        check_folder_options("out", {**plain, "engine": "spark"})


def test_a_part_that_is_there_is_not_worked_on(tmp_path):
    job = Job.open(tmp_path, {}, 5)
    job.part(4).write_text("first")
    assert do_part(Writer(), 4, "second", job) == PartDone(4)
    assert job.part(4).read_text() == "first"
    assert [event for _, event, _, _ in read_log(tmp_path)] == ["found"]


@pytest.fixture
def impatient(monkeypatch):
    """Nothing that another machine writes is waited for."""
    monkeypatch.setattr(jobs_module, "PATIENCE", 0)
    monkeypatch.setattr(time, "sleep", lambda _: None)


@pytest.mark.parametrize("begun_again", [True, False])
def test_a_process_that_outlives_its_job_writes_no_more(tmp_path, impatient, begun_again):
    """Such as a worker on a machine that was out of reach when the command was killed, and begun again."""
    folder = tmp_path / "out"

    class Slow(Writer):
        def __call__(self, part, path):
            super().__call__(part, path)
            if begun_again:
                jobs.append(Job.open(folder, {"n": 2}, 1, overwrite=True))
            else:
                shutil.rmtree(folder)

    jobs = [Job.open(folder, {"n": 1}, 1)]
    for work in (Slow(), Writer()):
        with pytest.raises(OutputError, match="was begun again, or its folder was deleted"):
            do_part(work, 0, "old", jobs[0])
    if begun_again:
        assert run(jobs[1], ["new"]) == [0]
        assert jobs[1].part(0).read_text() == "new"
        assert Job.open(folder, {"n": 2}, 1) == jobs[1]
        for late in (jobs[0].finish, lambda: do_part(Writer(), 0, "old", jobs[0])):  # the parts are of another job
            with pytest.raises(OutputError, match="was begun again"):
                late()


@pytest.mark.parametrize("at", ["_log", ".part-000001.parquet.x"])
def test_a_part_that_is_finished_while_a_job_is_cleared_is_not_in_the_new_one(tmp_path, impatient, monkeypatch, at):
    folder = tmp_path / "out"
    old = Job.open(folder, {"n": 1}, 3)
    run(old, "abc")
    old.part(1).unlink()
    (folder / ".part-000001.parquet.x").mkdir()
    delete, refused = shutil.rmtree, []

    def rmtree(path, **options):
        if path.name == at:
            try:
                do_part(Writer(), 1, "old", old)
            except OutputError:
                refused.append(path.name)
        delete(path, **options)

    monkeypatch.setattr(shutil, "rmtree", rmtree)
    assert Job.open(folder, {"n": 2}, 3, overwrite=True).missing() == [0, 1, 2]
    assert refused == [at]


def test_a_clearing_that_was_stopped_can_be_done_again(tmp_path, monkeypatch):
    folder = tmp_path / "out"
    run(Job.open(folder, {"n": 1}, 2), "ab")
    monkeypatch.setattr(Job, "_write", lambda *_, **facts: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        Job.open(folder, {"n": 2}, 2, overwrite=True)
    monkeypatch.undo()
    (folder / "_log").mkdir()
    assert run(Job.open(folder, {"n": 2}, 2), "cd") == [0, 1]


def test_a_job_that_another_machine_has_just_begun_is_waited_for(tmp_path, monkeypatch):
    job = Job.open(tmp_path / "out", {}, 1)
    path = tmp_path / "out" / "job.json"
    text = path.read_text()
    path.write_text(text.replace(job.id, "before"))
    monkeypatch.setattr(time, "sleep", lambda _: path.write_text(text))
    assert run(job, "a") == [0]


def test_a_folder_of_before_jobs_had_ids_is_continued(tmp_path):
    job = Job.open(tmp_path / "out", {}, 2)
    path = tmp_path / "out" / "job.json"
    path.write_text(path.read_text().replace(f'"id": "{job.id}",', ""))
    assert run(Job.open(tmp_path / "out", {}, 2), "ab") == [0, 1]


def test_parts_that_are_worked_on_again_are_counted():
    events = [(1.0, "begun", "a", "p"), (2.0, "begun", "a", "q"), (3.0, "written", "a", "q"), (4.0, "found", "a", "p")]
    assert count_repeated(events) == 0
    assert count_repeated([*events, (5.0, "begun", "a", "p"), (6.0, "begun", "a", "p")]) == 1


def test_warnings_of_parts_are_logged_once_for_each_form(tmp_path, caplog):
    job = Job.open(tmp_path / "out", {}, 3)
    warnings = WarningCounts()
    with caplog.at_level(logging.WARNING):
        for done in work_here(Writer(), enumerate(["a", "b", "c"]), job, "cpu"):
            warnings.log(done)
        warnings.log_rest()
    assert caplog.messages == ["part 0: a has a fault", "2 more warnings of the same kinds in other parts"]


def test_a_file_that_does_not_appear_is_reported(tmp_path, impatient):
    with pytest.raises(OutputError, match="all machines share"):
        wait_for(tmp_path / "gone")
    (tmp_path / "there").touch()
    wait_for(tmp_path / "there")
