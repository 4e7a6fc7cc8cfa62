"""Is everything here that the library needs? Versions, device, FAISS build, clashes, and the line that mends each."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import shutil
from dataclasses import dataclass, field
from typing import Any

from plankton_embed.errors import DependencyError
from plankton_embed.images.store import cache_folder
from plankton_embed.vector_index import import_faiss, installed_faiss, mending_line

PACKAGES = (
    "plankton_embed", "torch", "torchvision", "pytorch-metric-learning", "numpy", "scipy", "scikit-learn", "pandas",
    "pyarrow", "pillow", "matplotlib", "safetensors", "huggingface_hub", "typer", "pydantic", "pyyaml", "tqdm",
)  # fmt: skip
EXTRAS = {  # optional: what they are for stands in the README
    "balance": ("imbalanced-learn",),
    "clean": ("cleanlab",),
    "features": ("scikit-image",),
    "ifcb": ("h5py",),
    "reduce": ("umap-learn", "openTSNE"),
    "tabular": ("lightgbm",),
    "track": ("tensorboard",),
    "video": ("imageio-ffmpeg",),
}


@dataclass
class Diagnosis:
    """What was found: facts by name, and problems, each with the line that mends it."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"healthy": not self.problems, **self.facts, "problems": self.problems}


def doctor() -> Diagnosis:
    """Look at the installation; raise nothing, report all."""
    found = Diagnosis({"python": platform.python_version(), "platform": platform.platform()})
    for name in PACKAGES:
        try:
            found.facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.problems.append(f"{name} is not installed. Mend it: pip install {name}")
    for extra, names in EXTRAS.items():
        found.facts[f"extra {extra}"] = _describe_extra(extra, names)
    _check_torch(found)
    _check_faiss(found)
    _check_cache(found)
    return found


def _describe_extra(extra: str, names: tuple[str, ...]) -> str:
    """Return the versions of an extra's packages, or how to get them; it is no problem to lack them."""
    try:
        return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in names)
    except importlib.metadata.PackageNotFoundError:
        return f"not installed (pip install 'plankton_embed[{extra}]')"


def _check_torch(found: Diagnosis) -> None:
    try:
        import torch
        import torchvision

        from plankton_embed.network.device import choose_device, has_fast_bfloat16

        torchvision.ops.nms(torch.zeros(1, 4), torch.zeros(1), 0.5)
    except (ImportError, OSError, AttributeError, RuntimeError) as error:
        found.problems.append(
            f"torch and torchvision do not work together ({error}). "
            "Mend it: pip install --force-reinstall torch torchvision"
        )
        return
    device = choose_device("auto")
    found.facts["device"] = torch.cuda.get_device_name() if device.type == "cuda" else device.type
    found.facts["threads"] = torch.get_num_threads()
    found.facts["fast bfloat16"] = has_fast_bfloat16(device)


def _check_faiss(found: Diagnosis) -> None:
    builds = installed_faiss()
    found.facts["faiss build"] = ", ".join(f"{name} {version}" for name, version in builds.items()) or "none"
    try:
        faiss = import_faiss()
        found.facts["faiss GPUs"] = faiss.get_num_gpus() if hasattr(faiss, "get_num_gpus") else 0
    except DependencyError as error:
        found.problems.append(str(error))
        return
    if len(builds) > 1:
        found.problems.append(f"FAISS is installed more than once. {mending_line(builds)}")


def _check_cache(found: Diagnosis) -> None:
    folder = cache_folder()
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found.facts["cache"] = f"{folder} ({used / 1e9:.2f} GB used, {free / 1e9:.0f} GB free; safe to delete)"
    if free < 1e9:
        found.problems.append(
            f"under 1 GB is free at {existing}. Mend it: delete {folder}, "
            "or name another folder in PLANKTON_EMBED_CACHE"
        )
    if not os.access(existing, os.W_OK):
        found.problems.append(f"{existing} cannot be written. Mend it: name another folder in PLANKTON_EMBED_CACHE")
