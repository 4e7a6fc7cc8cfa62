"""Training states on disk."""

import pytest
import torch

from plankton_embed.errors import InputError
from plankton_embed.training.checkpoints import load_checkpoint, save_checkpoint


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
    with pytest.raises(InputError, match=r"last\.pt is no readable checkpoint"):
        load_checkpoint(tmp_path / "last.pt")
    assert "code was run" not in capsys.readouterr().out


def test_a_write_that_fails_leaves_the_old_state(tmp_path):
    save_checkpoint(tmp_path / "last.pt", {"epoch": 1})
    with pytest.raises(Exception, match=r"pickle|local|lambda"):
        save_checkpoint(tmp_path / "last.pt", {"epoch": lambda: 2})
    assert load_checkpoint(tmp_path / "last.pt") == {"epoch": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["last.pt"]
