"""Training states and weights on disk."""

import logging
import signal

import pytest
import torch
from torch import nn

from plankton_embed.errors import InputError, OutputError
from plankton_embed.run_folder import RunFolder
from plankton_embed.settings import TrainingSettings
from plankton_embed.training.checkpoints import Checkpoints, load_checkpoint, save_checkpoint


def open_folder(folder, **settings):
    return Checkpoints(RunFolder(folder), TrainingSettings(**settings))


def names(checkpoints):
    return sorted(path.name for path in checkpoints.run.checkpoints.iterdir())


def cut(path):
    """Leave half of a file, as a disk that was full would."""
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# ------------------------------------------------------------------------------------------ one state


def test_a_state_comes_back_with_values_and_memory_layout(tmp_path):
    kernel = torch.randn(4, 3, 2, 2).to(memory_format=torch.channels_last)
    save_checkpoint(tmp_path / "deep" / "last.pt", {"net": {"w": kernel}, "history": [{"epoch": 1, "name": "é"}]})
    state = load_checkpoint(tmp_path / "deep" / "last.pt")
    assert torch.equal(state["net"]["w"], kernel)
    assert state["net"]["w"].stride() == kernel.stride()
    assert state["history"] == [{"epoch": 1, "name": "é"}]


class Malicious:
    def __reduce__(self):
        return print, ("code was run",)


def write_code(path):
    torch.save({"net": Malicious()}, path)


def write_cut(path):
    torch.save({"net": torch.zeros(1000)}, path)
    path.write_bytes(path.read_bytes()[:500])


@pytest.mark.parametrize(
    "write", [write_code, write_cut, lambda path: path.write_bytes(b""), lambda path: path.write_bytes(b"garbage"),
              lambda path: torch.save([1, 2], path), lambda path: None]
)  # fmt: skip
def test_what_is_no_state_is_refused_by_name_and_runs_no_code(tmp_path, capsys, write):
    write(tmp_path / "last.pt")
    with pytest.raises(InputError, match=r"last\.pt is not a readable checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert "code was run" not in capsys.readouterr().out


def test_a_state_with_a_damaged_block_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    save_checkpoint(path, {"weights": torch.arange(10_000.0)})
    whole = bytearray(path.read_bytes())
    whole[20_000:20_512] = bytes(512)  # what a power cut can leave; torch.load reads it without complaint
    path.write_bytes(whole)
    with pytest.raises(InputError, match=r"state\.pt is not a readable checkpoint: its part .* is damaged"):
        load_checkpoint(path)


def test_weights_that_are_cut_are_refused_by_name(tmp_path):
    checkpoints = Checkpoints(RunFolder(tmp_path), TrainingSettings())
    checkpoints.save_weights(1, torch.nn.Linear(3, 2))
    path = checkpoints.run.epoch_weights(1)
    path.write_bytes(path.read_bytes()[:-4])
    with pytest.raises(InputError, match=r"epoch-.* cannot be read as weights"):
        checkpoints.load_weights(1, torch.nn.Linear(3, 2))


def test_a_write_that_fails_leaves_the_old_state(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"epoch": 1})
    with pytest.raises(Exception, match=r"pickle|local|lambda"):
        save_checkpoint(tmp_path / "last.pt", {"epoch": lambda: 2})
    assert load_checkpoint(tmp_path / "last.pt") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]


@pytest.fixture
def full_disk():
    """Let no file grow beyond 10 kB, as a disk that is nearly full would."""
    resource = pytest.importorskip("resource", reason="the limit of a file's size is set as on Unix")
    before, handler = resource.getrlimit(resource.RLIMIT_FSIZE), signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
    signal.signal(signal.SIGXFSZ, handler)


@pytest.mark.parametrize("what", ["state", "weights"])
def test_a_full_disk_is_one_error_and_leaves_the_old_files(tmp_path, full_disk, what):
    checkpoints = open_folder(tmp_path)
    checkpoints.save_state(1, 0, {"epoch": 1})
    checkpoints.save_weights(1, nn.Linear(2, 2))
    before = names(checkpoints)
    with pytest.raises(OutputError, match=rf"cannot write .*{'state' if what == 'state' else 'epoch'}-"):
        if what == "state":
            checkpoints.save_state(2, 0, {"weights": torch.randn(10_000)})
        else:
            checkpoints.save_weights(2, nn.Linear(100, 100))
    assert names(checkpoints) == before
    assert checkpoints.load_state() == {"epoch": 1}


# ------------------------------------------------------------------------------------------ the states of a training


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_newest_states_are_kept_and_the_newest_is_read(tmp_path, keep):
    checkpoints = open_folder(tmp_path, keep_checkpoints=keep)
    places = [(1, 999), (2, 0), (2, 5), (2, 1000), (11, 0)]  # as text 1000 comes before 5, and 11 before 2
    for number, place in enumerate(places):
        checkpoints.save_state(*place, {"place": list(place)})
        assert open_folder(tmp_path).load_state() == {"place": list(place)}
        assert len(checkpoints.states) == min(keep, number + 1)
    assert [load_checkpoint(path)["place"] for path in checkpoints.states] == [list(place) for place in places[-keep:]]


def test_a_state_lies_where_the_run_folder_says_and_needs_no_code_to_be_read(tmp_path):
    checkpoints = open_folder(tmp_path)
    checkpoints.save_state(3, 7, {"step": 7})
    assert names(checkpoints) == ["state-00003-0000007.pt"]
    assert torch.load(RunFolder(tmp_path).training_state(3, 7), weights_only=True) == {"step": 7}


def test_where_there_is_no_state_there_is_none_to_load(tmp_path):
    assert open_folder(tmp_path).load_state() is None
    (tmp_path / "checkpoints").mkdir()
    assert open_folder(tmp_path).load_state() is None


def test_a_newest_state_that_is_cut_gives_way_to_the_one_before_it_with_a_warning(tmp_path, caplog):
    checkpoints = open_folder(tmp_path, keep_checkpoints=3)
    for step in (1, 2, 3):
        checkpoints.save_state(1, step, {"step": step})
    cut(checkpoints.states[-1])
    with caplog.at_level(logging.WARNING):
        assert checkpoints.load_state() == {"step": 2}
    assert len(caplog.records) == 1
    assert "state-00001-0000003.pt is not a readable checkpoint" in caplog.text
    assert "the state before it" in caplog.text


def test_states_of_which_none_can_be_read_are_refused_by_name(tmp_path):
    checkpoints = open_folder(tmp_path)
    for step in (1, 2):
        checkpoints.save_state(1, step, {"step": step})
        cut(checkpoints.states[-1])
    with pytest.raises(InputError, match=r"state-00001-0000002\.pt is not a readable checkpoint"):
        checkpoints.load_state()


def test_states_of_which_none_can_be_read_here_are_left_for_where_they_can(tmp_path, monkeypatch):
    checkpoints = open_folder(tmp_path)
    for step in (1, 2):
        checkpoints.save_state(1, step, {"step": step})

    def fail(*_, **__):
        raise RuntimeError("no memory")

    with monkeypatch.context() as patch, pytest.raises(InputError, match="no memory"):
        patch.setattr(torch, "load", fail)
        checkpoints.load_state()
    assert open_folder(tmp_path).load_state() == {"step": 2}


@pytest.mark.parametrize("keep", [1, 2])
def test_a_state_written_after_one_that_is_cut_is_the_one_to_go_on_from(tmp_path, keep):
    checkpoints = open_folder(tmp_path, keep_checkpoints=keep)
    save_checkpoint(checkpoints.run.training_state(1, 1), {"step": 1})
    save_checkpoint(checkpoints.run.training_state(1, 9), {"step": 9})
    cut(checkpoints.states[-1])
    assert checkpoints.load_state() == {"step": 1}
    checkpoints.save_state(1, 2, {"step": 2})
    assert open_folder(tmp_path).load_state() == {"step": 2}


def test_what_a_killed_process_was_writing_is_swept_up(tmp_path):
    open_folder(tmp_path).save_state(1, 2, {"step": 2})
    scratch = tmp_path / "checkpoints" / ".state-00001-0000003.pt.x7y"
    scratch.mkdir()
    (scratch / "state-00001-0000003.pt").write_bytes(b"half a stat")
    checkpoints = open_folder(tmp_path)
    assert names(checkpoints) == ["state-00001-0000002.pt"]
    assert checkpoints.load_state() == {"step": 2}


def test_a_state_is_due_at_once_or_when_the_minutes_have_gone_by(tmp_path, monkeypatch):
    assert open_folder(tmp_path, checkpoint_minutes=0).is_due()
    now = 1000.0
    monkeypatch.setattr("plankton_embed.training.checkpoints.time.monotonic", lambda: now)
    checkpoints = open_folder(tmp_path, checkpoint_minutes=10)
    for start in (1000.0, 1600.0):  # from the beginning, then from the state before
        now = start + 599
        assert not checkpoints.is_due()
        now = start + 600
        assert checkpoints.is_due()
        checkpoints.save_state(1, int(now), {})


# ------------------------------------------------------------------------------------------ the weights


def save_epochs(checkpoints, n):
    nets = [nn.Sequential(nn.Conv2d(3, 4, 2), nn.BatchNorm2d(4)) for _ in range(n)]
    for net in nets:
        net.to(memory_format=torch.channels_last)
    for epoch, net in enumerate(nets, 1):
        checkpoints.save_weights(epoch, net)
    return nets


def test_the_weights_of_an_epoch_come_back(tmp_path):
    checkpoints = open_folder(tmp_path)
    nets = save_epochs(checkpoints, 2)
    checkpoints.load_weights(1, nets[1])
    first, second = (net.state_dict() for net in nets)
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize(("keep_every_epoch", "kept"), [(False, [2]), (True, [1, 2, 3])])
def test_only_the_best_weights_are_kept_unless_every_epoch_is(tmp_path, keep_every_epoch, kept):
    checkpoints = open_folder(tmp_path, keep_every_epoch=keep_every_epoch)
    save_epochs(checkpoints, 3)
    checkpoints.save_state(4, 0, {})
    checkpoints.drop_weights(2)
    weights = [f"epoch-{epoch:05d}.safetensors" for epoch in kept]
    assert names(checkpoints) == [*weights, "state-00004-0000000.pt"]


def test_a_process_that_does_not_write_leaves_the_folder_to_the_one_that_does(tmp_path):
    open_folder(tmp_path).save_state(1, 2, {"step": 2})
    scratch = tmp_path / "checkpoints" / ".state-00001-0000003.pt.x7y"
    scratch.mkdir()
    other = Checkpoints(RunFolder(tmp_path), TrainingSettings(checkpoint_minutes=0), writes=False)
    assert scratch.exists() and not other.is_due()
