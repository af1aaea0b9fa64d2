"""Where and with what a number was computed: shown beside it, never compared."""

import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from importlib import metadata
from pathlib import Path
from typing import Any

PACKAGES = ("salib", "torch", "numpy", "scikit-learn", "pandas", "matplotlib", "geobench")
RAN_ON = ("device", "instructions", "precision", "attention")
"""What is recorded of the run that gave a number: names in a model's `timing.json` and in rows."""


def run_facts(ran_on: Mapping[str, Any]) -> dict[str, str]:
    """What is known of a run, lists joined; a cell without a value in a table of rows is NaN."""
    given = {name: ran_on.get(name) for name in RAN_ON}
    return {
        name: value if isinstance(value, str) else "+".join(map(str, value))
        for name, value in given.items()
        if value and value == value
    }


def machine(root: Path) -> dict[str, Any]:
    """What this process computes with: commit of the checkout, device, versions."""
    device = f"CPU, {platform.machine()}, {os.cpu_count()} cores"
    multiplies = None
    if "torch" in sys.modules:  # a page without it has computed with no instructions to speak of
        from salib.model.precision import instructions, resolve_device

        found = resolve_device("auto")
        multiplies = instructions(found)
        device = multiplies if found.type == "cuda" else device
    commit = _git(root, "rev-parse", "HEAD")
    changes = _git(root, "status", "--porcelain", "-uno")
    return {
        "commit": commit,
        "dirty": None if changes is None else bool(changes),
        "device": device,
        "instructions": multiplies,
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
    }


def _git(root: Path, *words: str) -> str | None:
    """What git answers, or None outside of a checkout or without git."""
    command = ["git", "-C", str(root), *words]
    try:
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
