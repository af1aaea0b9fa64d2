"""Changes of meaning that the tests must notice: `make mutants`, or with names of mutants.

Each entry of `mutants.toml` is applied in turn to a copy of the repository, in which the tests that
ought to fail are run without the optional data folders. A change that no test notices survives.
"""

import argparse
import csv
import os
import queue
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results" / "mutants.csv"
WORKERS = 2
LIMIT_S = 600
SURVIVED = "survived"
TIMEOUT = "timeout"


@dataclass(frozen=True, kw_only=True)
class Mutant:
    """One change: the only occurrence of `old` in `file` becomes `new`, and `tests` must notice.

    `what` says in plain words what the changed code does.
    """

    name: str
    what: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]

    def text(self, root: Path) -> str:
        """The changed file.

        Raises:
            ValueError: if `old` does not stand in the file exactly once, or nothing changes.
        """
        source = (root / self.file).read_text(encoding="utf-8")
        if self.old == self.new or source.count(self.old) != 1:
            raise ValueError(
                f"{self.name}: `old` must differ from `new` and stand in {self.file} once, got it "
                f"{source.count(self.old)} times: update tests/mutants.toml"
            )
        return source.replace(self.old, self.new)


def read_mutants(path: Path = ROOT / "tests" / "mutants.toml") -> list[Mutant]:
    """All mutants, each checked against the library as it stands.

    Raises:
        ValueError: if two have one name, a test file is missing, or `old` is not found once.
    """
    entries = tomllib.loads(path.read_text(encoding="utf-8"))["mutant"]
    mutants = [Mutant(**entry | {"tests": tuple(entry["tests"])}) for entry in entries]
    names = [mutant.name for mutant in mutants]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"names must differ, got {twice} twice")
    for mutant in mutants:
        mutant.text(ROOT)
        for test in mutant.tests:
            file, _, function = test.partition("::")
            if not (ROOT / file).is_file() or f"def {function}" not in (ROOT / file).read_text():
                raise ValueError(f"{mutant.name}: {test} must be a test, got no such file or test")
    return mutants


def copy_repository(to: Path) -> None:
    """Copy what git tracks or would track."""
    listing = ("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    names = subprocess.run(listing, cwd=ROOT, capture_output=True, check=True, text=True).stdout
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, to / name)


def run_tests(copy: Path, tests: Iterable[str]) -> str:
    """The first test that fails, `SURVIVED` if none does, or `TIMEOUT`.

    Raises:
        RuntimeError: if the tests could not be run at all.
    """
    unset = ("SALIB_DATA_DIR", "SALIB_ORACLE_DIR", "GEO_BENCH_DIR")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    # Compiled files are told apart by second and size only, which a change may leave as they are.
    environment |= {"PYTHONPATH": str(copy), "PYTHONDONTWRITEBYTECODE": "1"}
    # Folders of its own: sessions that share them clear away each other's in passing.
    options = ("-x", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider")
    options += (f"--basetemp={copy}-tests",)
    run = subprocess.Popen(
        [sys.executable, "-m", "pytest", *options, *tests],
        cwd=copy,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = run.communicate(timeout=LIMIT_S)
    except subprocess.TimeoutExpired:
        os.killpg(run.pid, signal.SIGKILL)
        run.communicate()
        return TIMEOUT
    if run.returncode == 0:
        return SURVIVED
    failed = re.search(r"^(?:FAILED|ERROR) ([\w./]+::\w+)", said, re.MULTILINE)
    if run.returncode != 1 or failed is None:
        raise RuntimeError(f"pytest must run its tests, got exit {run.returncode}:\n{said[-3000:]}")
    return failed[1]


def fate(copy: Path, mutant: Mutant) -> str:
    """Apply a mutant to a copy, run its tests, and put the file back."""
    path = copy / mutant.file
    original = path.read_bytes()
    path.write_text(mutant.text(copy), encoding="utf-8")
    try:
        return run_tests(copy, mutant.tests)
    finally:
        path.write_bytes(original)


def over_copies(copies: Sequence[Path], work: Callable[[Path, Any], str], items: Sequence[Any]):
    """Each item in turn with what `work` makes of it, in a copy that is free."""
    free: queue.SimpleQueue[Path] = queue.SimpleQueue()
    for copy in copies:
        free.put(copy)

    def one(item: Any) -> str:
        copy = free.get()
        try:
            return work(copy, item)
        finally:
            free.put(copy)

    with ThreadPoolExecutor(len(copies)) as pool:
        yield from zip(items, pool.map(one, items), strict=True)


def by_file(mutants: Iterable[Mutant]) -> list[list[str]]:
    """Every test that is named, those of one file together."""
    files: dict[str, set[str]] = {}
    for test in (test for mutant in mutants for test in mutant.tests):
        files.setdefault(test.split("::")[0], set()).add(test)
    return [[name] if name in tests else sorted(tests) for name, tests in sorted(files.items())]


def run_all(mutants: Sequence[Mutant]) -> dict[str, str]:
    """The killer of each mutant by name, after checking that the tests pass without any.

    Raises:
        RuntimeError: if a test fails on the unchanged copy.
    """
    killers: dict[str, str] = {}
    begun = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mutants-") as folder:
        copies = [Path(folder) / str(number) for number in range(WORKERS)]
        for copy in copies:
            copy_repository(copy)
        for tests, result in over_copies(copies, run_tests, by_file(mutants)):
            if result != SURVIVED:
                raise RuntimeError(f"tests must pass without a mutant, got {result} in {tests}")
        say(f"unchanged: all tests pass ({time.monotonic() - begun:.0f} s)")
        for mutant, killer in over_copies(copies, fate, mutants):
            killers[mutant.name] = killer
            at = f"{len(killers)}/{len(mutants)}, {time.monotonic() - begun:.0f} s"
            say(f"{at}: {mutant.name}: {killer}")
    return killers


def say(line: str) -> None:
    """Print a line of progress at once."""
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def update_table(path: Path, mutants: Sequence[Mutant], killers: dict[str, str]) -> None:
    """The table that the book shows; mutants that were not run this time keep their row."""
    if path.is_file():
        with path.open(encoding="utf-8", newline="") as file:
            killers = {row["name"]: row["noticed by"] for row in csv.DictReader(file)} | killers
    with path.open("w", encoding="utf-8", newline="") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("name", "file", "what the changed code does", "noticed by"))
        for mutant in mutants:
            if mutant.name in killers:
                table.writerow((mutant.name, mutant.file, mutant.what, killers[mutant.name]))


def main() -> int:
    """Run the mutants whose names hold an argument, or all; 1 if any survives."""
    parser = argparse.ArgumentParser(description="Apply changes of meaning; the tests must notice.")
    parser.add_argument("names", nargs="*", help="only mutants whose names hold one of these")
    parser.add_argument("--check", action="store_true", help="only check that each can be applied")
    options = parser.parse_args()
    mutants = read_mutants()
    chosen = [m for m in mutants if any(part in m.name for part in options.names or [""])]
    if not chosen:
        parser.error(f"names must be parts of mutants' names, got {options.names}")
    if options.check:
        return 0
    if not (ROOT / ".git").exists():
        parser.error(f"the repository must be a git checkout, got {ROOT}: clone it")
    killers = run_all(chosen)
    survivors = [name for name, killer in killers.items() if killer == SURVIVED]
    say(f"{len(chosen)} mutants, {len(survivors)} survived: {', '.join(survivors) or 'none'}")
    update_table(RESULTS, mutants, killers)
    return 1 if survivors else 0


if __name__ == "__main__":
    sys.exit(main())
