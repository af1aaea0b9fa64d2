"""The graph of notebooks and artefacts, run by doit: `python -m doit`, or `make book`.

What a page or the book was made from is kept beside it as `*.key.json`, written last. A task is up
to date when that key still holds, so an interrupted build goes on where it stopped.
"""

import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import yaml
from doit.exceptions import TaskFailed

from salib.files import artifact

ROOT = Path(__file__).parent
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import run_notebook  # noqa: E402

PROFILE = os.environ.setdefault("SALIB_PROFILE", "smoke")
PROFILES = sorted(path.stem for path in Path("profiles").glob("*.yml"))
if PROFILE not in PROFILES:  # before a path is built from it
    sys.exit(f"error: PROFILE must be one of {', '.join(PROFILES)}, got {PROFILE!r}")
BUILD = Path("build")
PAGES = BUILD / "pages" / PROFILE
HTML = BUILD / "_build"
RESULTS = Path("results") / PROFILE
RUNS = Path("runs") / PROFILE


def experiment(name: str) -> list[Path]:
    """The plan of an experiment and its committed rows."""
    rows = Path("results/laptop/experiments").glob(f"{name}*.csv")
    return [Path("paper/experiments.yml"), *sorted(rows)]


# All that a verdict rests on: plans, committed rows, and modules that no notebook imports by name.
VERDICTS = [
    Path("paper/claims.yml"),
    RESULTS / "evaluation" / "rows.csv",
    *experiment(""),
    *sorted(Path("exhibits/experiments").glob("*.py")),
]

# In the book's order. Each names what it reads from earlier ones: folders stamped by
# `salib.files.artifact.stamp` or files in results/, never an executed notebook.
NOTEBOOKS = {
    "01_curation": [],
    "02_attention": [],
    "03_model": [RUNS / "tiles" / artifact.MADE_FROM],
    "04_pretraining": [RUNS / "tiles" / artifact.MADE_FROM],
    "05_table2": [RUNS / "models" / name / artifact.MADE_FROM for name in ("scale_alibi", "croma")],
    "06_tasks": [RESULTS / "evaluation" / "rows.csv"],
    "07_performance": [],
    "08_anchors": [RESULTS / "evaluation" / "rows.csv"],
    "09_maps": [RUNS / "models" / "scale_alibi" / artifact.MADE_FROM],
    "10_sensors": [],
    "11_use": [
        RUNS / "models" / "scale_alibi" / artifact.MADE_FROM,
        *sorted(Path("examples").glob("*.py")),
    ],
    "12_cost": [RUNS / "tiles" / artifact.MADE_FROM],
    "13_trained": [
        Path("salib/weights/laptop/model.safetensors"),
        *sorted(Path("results/laptop").glob("*.csv")),
    ],
    "14_scale": experiment("scale"),
    "15_mechanism": experiment("mechanism"),
    "16_regimes": experiment("regimes"),
    "17_sharing": [RUNS / "tiles" / artifact.MADE_FROM, *experiment("sharing")],
    "18_correspondence": experiment("correspondence"),
    "19_length": experiment("length"),
    "20_real_scales": [RUNS / "tiles" / artifact.MADE_FROM, *experiment("real_scales")],
    "21_faults": [RUNS / "tiles" / artifact.MADE_FROM, *experiment("faults")],
    "22_power": [*experiment("power"), Path("paper/table2.csv"), Path("results/learning.csv")],
    "23_together": [Path("salib/weights/laptop/model.safetensors"), *experiment("together")],
    "24_verdicts": VERDICTS,
}

# What a notebook leaves for later ones; when it is gone the notebook runs again.
LEAVES = {
    "01_curation": [RUNS / "tiles" / artifact.MADE_FROM],
    "04_pretraining": NOTEBOOKS["05_table2"],
    "05_table2": NOTEBOOKS["06_tasks"],
}

MISTAKES = (ValueError, OSError, SyntaxError, KeyError, TypeError, yaml.YAMLError)
DOIT_CONFIG = {
    "default_tasks": ["book"],
    "backend": "sqlite3",
    "dep_file": str(BUILD / "doit.db"),
    "verbosity": 2,
}
BUILD.mkdir(exist_ok=True)


def task_notebook():
    """Execute a notebook; its last good page stays until the new one is whole."""
    earlier = []
    for stem in NOTEBOOKS:
        page = PAGES / f"{stem}.ipynb"
        yield {
            "name": stem,
            "actions": [(in_a_line(make_page), [stem])],
            "uptodate": [(is_kept, [page, notebook_key, stem])],
            "targets": [page, RESULTS / "ledger" / f"{stem}.json", *LEAVES.get(stem, [])],
            "task_dep": [f"notebook:{name}" for name in earlier],
        }
        earlier.append(stem)


def task_book():
    """Build the pages; a failing build leaves the last good book."""
    return {
        "actions": [in_a_line(make_book)],
        "uptodate": [(is_kept, [HTML, book_key])],
        "targets": [HTML / "html" / "index.html"],
        "task_dep": [f"notebook:{stem}" for stem in NOTEBOOKS],
    }


def in_a_line(make):
    """An action whose mistakes of the user are told without doit's traceback."""

    def action(*args):
        try:
            make(*args)
        except MISTAKES as error:
            return TaskFailed(f"error: {error}")

    return action


def make_page(stem: str) -> None:
    """Run a notebook with the profile's parameters and keep the page it makes."""
    key = notebook_key(stem)
    source, run = Path("notebooks") / f"{stem}.ipynb", BUILD / "run" / PROFILE / f"{stem}.ipynb"
    executed = run_notebook.execute(source, run, key["parameters"], (BUILD / "jupyter").resolve())
    ledger = RESULTS / "ledger" / f"{stem}.json"
    if not ledger.is_file():
        raise FileNotFoundError(f"{source} must close its ledger, but {ledger} is absent")
    _write_json(run.with_suffix(".durations.json"), run_notebook.durations(executed))
    page = PAGES / f"{stem}.ipynb"
    with artifact.atomic_file(page) as part:
        part.write_text(json.dumps(run_notebook.normalise(executed, stem), indent=1))
    # A notebook may itself renew what it reads, so that part of the key is taken afterwards.
    _write_json(_key_file(page), {**key, "upstream": upstream(stem)})


def make_book() -> None:
    """Build into a temporary folder that replaces the last book only when nothing warned."""
    key = book_key()
    with artifact.atomic_dir("book/notebooks") as part:
        for stem in NOTEBOOKS:
            shutil.copyfile(PAGES / f"{stem}.ipynb", part / f"{stem}.ipynb")
    with artifact.atomic_dir(HTML) as part:
        start = "from jupyter_book.cli.main import main; main()"
        command = [sys.executable, "-c", start, "build", "book"]
        options = [
            "--config",
            "_config.yml",
            "--path-output",
            str(part),
            "-W",
            "--keep-going",
            "-q",
        ]
        if subprocess.run([*command, *options], stdout=subprocess.DEVNULL).returncode:
            raise ValueError("the book must build without warnings; they stand above")
        for path in (part / "_build").iterdir():
            path.rename(part / path.name)
        (part / "_build").rmdir()
    _write_json(_key_file(HTML), key)


def is_kept(target: Path, key, *args) -> bool:
    """Whether the key written beside `target` is the one it would get now."""
    kept = _key_file(target)
    try:
        now = json.loads(json.dumps(key(*args)))
    except MISTAKES as error:  # doit would print it below its own traceback
        sys.exit(f"error: {target.stem}: {error}")
    try:
        return json.loads(kept.read_text()) == now
    except (OSError, ValueError):  # absent or cut: not known to be whole
        return False


def notebook_key(stem: str) -> dict:
    """Everything a page depends on."""
    notebook = Path("notebooks") / f"{stem}.ipynb"
    sources = run_notebook.modules_of(notebook) | {ROOT / "requirements.lock"}
    sources |= {ROOT / "book" / "_ext" / "run_notebook.py"}
    texts = [cell["source"] for cell in run_notebook.cells_of(notebook)]
    named = re.findall(r"(?:paper|results)/[\w./{}]+\.(?:csv|yml)", json.dumps(texts))
    # What an f-string may stand for.
    patterns = {re.sub(r"{\w+}", "*", name.replace("{profile}", PROFILE)) for name in named}
    sources |= {path for pattern in patterns for path in ROOT.glob(pattern)}
    reads_real = any("SALIB_DATA_DIR" in path.read_text() for path in sources) or (
        "SALIB_DATA_DIR" in json.dumps(texts)
    )
    return {
        "cells": hashlib.sha256(json.dumps(texts).encode()).hexdigest(),
        "parameters": parameters(notebook),
        "sources": _digests(sources),
        "real": real_data() if reads_real else None,
        "upstream": upstream(stem),
    }


def book_key() -> dict:
    """Everything the book depends on."""
    skipped = ("notebooks", "_generated", "__pycache__")
    files = [path for path in Path("book").rglob("*") if not set(path.parts) & set(skipped)]
    files += [*PAGES.glob("*.ipynb"), *RESULTS.glob("ledger/*"), *RESULTS.glob("figures/*")]
    files += [Path("_config.yml"), Path("requirements.lock"), Path("results/mutants.csv")]
    return {"profile": PROFILE, "files": _digests(path for path in files if path.is_file())}


def parameters(notebook: Path) -> dict:
    """The keys of the profile that this notebook declares."""
    path = Path("profiles") / f"{PROFILE}.yml"
    profile = yaml.safe_load(path.read_text())
    if not isinstance(profile, dict):
        raise ValueError(f"{path} must hold parameters by name, got {profile!r}")
    return {name: profile[name] for name in run_notebook.declared(notebook) if name in profile}


def upstream(stem: str) -> dict:
    """Digests of what earlier notebooks left for this one."""
    return {str(path): path.is_file() and artifact.file_digest(path) for path in NOTEBOOKS[stem]}


def real_data() -> list | None:
    """Names and sizes of the real data, or None where there are none."""
    folder = os.environ.get("SALIB_DATA_DIR")
    if not folder:
        return None
    files = (path for path in Path(folder).rglob("*") if path.is_file())
    return sorted([str(path.relative_to(folder)), path.stat().st_size] for path in files)


def _digests(paths) -> dict:
    return {os.path.relpath(path, ROOT): artifact.file_digest(path) for path in sorted(paths)}


def _key_file(target: Path) -> Path:
    return target.with_name(f"{target.name}.key.json")


def _write_json(path: Path, content: dict) -> None:
    with artifact.atomic_file(path) as part:
        part.write_text(json.dumps(content, indent=1))
