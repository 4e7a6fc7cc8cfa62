"""`doctor`: versions, device, FAISS build, conflicts, and the command that fixes each problem."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import re
import shutil
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from plankton_embed.errors import DependencyError
from plankton_embed.images.store import cache_folder
from plankton_embed.notebook import Shown
from plankton_embed.vector_index import fixing_command, import_faiss, installed_faiss

NOT_SHOWN = {"bench", "check", "cpu", "docs", "gpu", "test"}  # extras of developers, and the FAISS builds


@dataclass(repr=False)
class Diagnosis(Shown):
    """Facts by name, and problems, each with the command that fixes it."""

    facts: dict[str, Any] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def _describe(self) -> str:
        return "; ".join(self.problems) or "no problems found"

    def to_dict(self) -> dict[str, Any]:
        """Return plain values, ready for JSON."""
        return {"healthy": not self.problems, **self.facts, "problems": self.problems}


def doctor() -> Diagnosis:
    """Check the installation; problems are reported, not raised."""
    found = Diagnosis({"python": platform.python_version(), "platform": platform.platform()})
    core, extras = _read_requirements()
    for name in ["plankton_embed", *core]:
        try:
            found.facts[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.problems.append(f"{name} is not installed. To fix it: pip install {name}")
    for extra, names in extras.items():
        found.facts[f"extra {extra}"] = _describe_extra(extra, names)
    _check_torch(found)
    _check_faiss(found)
    _check_cache(found)
    return found


def _read_requirements() -> tuple[list[str], dict[str, list[str]]]:
    """Return the names of the packages that are always needed, and of those of each extra, from our metadata."""
    core: list[str] = []
    extras: dict[str, list[str]] = defaultdict(list)
    try:
        requirements = importlib.metadata.requires("plankton_embed") or []
    except importlib.metadata.PackageNotFoundError:  # which is reported as a problem
        requirements = []
    for requirement in requirements:
        name = re.split(r"[^\w.-]", requirement)[0]
        extra = re.search(r"extra == ['\"](.+?)['\"]", requirement)
        if extra is None:
            core.append(name)
        elif extra[1] not in NOT_SHOWN:
            extras[extra[1]].append(name)
    return core, extras


def _describe_extra(extra: str, names: Sequence[str]) -> str:
    """Return the versions of an extra's packages, or how to install them: lacking them is not a problem."""
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
            "To fix it: pip install --force-reinstall torch torchvision"
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
        found.problems.append(f"FAISS is installed more than once. {fixing_command(builds)}")


def _check_cache(found: Diagnosis) -> None:
    folder = cache_folder()
    used = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) if folder.is_dir() else 0
    existing = next(parent for parent in (folder, *folder.parents) if parent.exists())
    free = shutil.disk_usage(existing).free
    found.facts["cache"] = f"{folder} ({used / 1e9:.2f} GB used, {free / 1e9:.0f} GB free; safe to delete)"
    if free < 1e9:
        found.problems.append(
            f"less than 1 GB is free at {existing}. To fix it: delete {folder}, "
            "or set PLANKTON_EMBED_CACHE to another folder"
        )
    if not os.access(existing, os.W_OK):
        found.problems.append(f"{existing} cannot be written. To fix it: set PLANKTON_EMBED_CACHE to another folder")
