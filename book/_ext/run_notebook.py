"""Execute one notebook with papermill and make of it a page that two runs of one seed agree on."""

import ast
import json
import os
import re
import sys
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PACKAGES = ("earth", "exhibits", "salib")
PROGRESS = re.compile(r"\d+%\|.*\||\d+(\.\d+)?(it|s|\w+)/(s|it)\b|\d\d:\d\d[<,\]]")


def cells_of(notebook: Path) -> list[dict[str, Any]]:
    """The cells of a notebook file."""
    return json.loads(notebook.read_text(encoding="utf-8"))["cells"]


def has_tag(cell: dict[str, Any], tag: str) -> bool:
    """Whether a cell carries a tag."""
    return tag in cell["metadata"].get("tags", [])


def declared(notebook: Path) -> dict[str, Any]:
    """Names and defaults that the notebook's parameters cell assigns.

    Raises:
        ValueError: if there is not exactly one such cell.
    """
    found = [cell for cell in cells_of(notebook) if has_tag(cell, "parameters")]
    if len(found) != 1:
        raise ValueError(f"{notebook} must have one cell tagged parameters, got {len(found)}")
    body = ast.parse("".join(found[0]["source"])).body
    pairs = [(target, node.value) for node in body for target in getattr(node, "targets", [])]
    return {target.id: ast.literal_eval(value) for target, value in pairs}


def modules_of(notebook: Path) -> set[Path]:
    """Source files of all our modules that a notebook's code cells depend on."""
    cells = (cell for cell in cells_of(notebook) if cell["cell_type"] == "code")
    return module_files("\n".join("".join(cell["source"]) for cell in cells))


def module_files(code: str) -> set[Path]:
    """Source files of our modules that code imports and, transitively, of all that they import."""
    files: set[Path] = set()
    codes = [code]
    while codes:
        new = set().union(*map(_files, _imports(codes.pop()))) - files
        files |= new
        codes += [path.read_text() for path in new]
    return files


def use_own_kernel(folder: Path) -> None:
    """Make "python3" mean this interpreter, whatever kernels the user has installed."""
    spec = {
        "argv": [
            *(sys.executable, "-Xfrozen_modules=off", "-m", "ipykernel_launcher"),
            *("-f", "{connection_file}", "--log-level=40"),
        ],
        "display_name": "Python 3",
        "language": "python",
    }
    place = folder / "kernels" / "python3" / "kernel.json"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(json.dumps(spec))
    os.environ["JUPYTER_PATH"] = str(folder)
    os.environ["PYTHONHASHSEED"] = "0"
    os.environ["JUPYTER_PLATFORM_DIRS"] = "1"


def execute(notebook: Path, out: Path, parameters: dict[str, Any], kernels: Path) -> dict[str, Any]:
    """Run `notebook` from the working folder into `out` and return the executed notebook.

    Raises:
        papermill.PapermillExecutionError: if a cell fails; `out` then holds the traceback.
    """
    use_own_kernel(kernels)
    import papermill

    out.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        str(notebook),
        str(out),
        parameters=parameters,
        kernel_name="python3",
        stderr_file=sys.stderr,
        cwd=".",
    )
    return json.loads(out.read_text(encoding="utf-8"))


def durations(executed: dict[str, Any]) -> dict[str, Any]:
    """Seconds the notebook and each of its cells took."""
    cells = {c["id"]: c["metadata"].get("papermill", {}).get("duration") for c in executed["cells"]}
    total = executed["metadata"]["papermill"]["duration"]
    return {"notebook": total, "cells": {k: v for k, v in cells.items() if v is not None}}


def normalise(executed: dict[str, Any], stem: str) -> dict[str, Any]:
    """Drop clock times, paths, random ids and progress bars from an executed notebook."""
    for cell in executed["cells"]:
        cell["metadata"] = {k: v for k, v in cell["metadata"].items() if k == "tags"}
        if has_tag(cell, "injected-parameters"):
            cell["id"] = f"{stem}-injected"
        if cell["cell_type"] == "code":
            cell["outputs"] = [kept for kept in map(_settled, cell["outputs"]) if kept]
    keep = ("kernelspec", "language_info")
    executed["metadata"] = {k: v for k, v in executed["metadata"].items() if k in keep}
    return executed


@cache
def _imports(code: str) -> set[str]:
    """Dotted names that code imports; of `from a import b` both a and a.b."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            names |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def _files(name: str) -> set[Path]:
    """Files of a module or package of ours; of the largest packages only what is imported."""
    path = ROOT.joinpath(*name.split("."))
    if name.split(".")[0] not in PACKAGES:
        return set()
    if path.is_dir():
        return {path / "__init__.py"} if name in ("exhibits", "salib") else {*path.rglob("*.py")}
    return {file for file in [path.with_suffix(".py")] if file.is_file()}


def _settled(output: dict[str, Any]) -> dict[str, Any] | None:
    if output["output_type"] != "stream":
        return output
    lines = "".join(output["text"]).split("\n")
    lines = [line.rstrip("\r").rpartition("\r")[2] for line in lines]
    text = "\n".join(line for line in lines if not PROGRESS.search(line))
    return {**output, "text": text.lstrip("\n")} if text.strip() else None
