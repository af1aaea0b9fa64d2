"""What an experiment asks, the rule by which it is decided, and the rows that it leaves."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import yaml

from exhibits.provenance import machine
from exhibits.tables.summary import INTERVAL, seed_interval
from salib.evaluate.scores.statistics import Interval
from salib.files.artifact import atomic_file

PLANS = Path("paper/experiments.yml")
RECIPE, SIZES, COMMIT = "recipe", "sizes", "commit"


class Verdict(NamedTuple):
    """What the rows of an experiment say by its rule."""

    answer: Literal["holds", "does not hold", "cannot be decided here", "not run"]
    evidence: str


NOT_RUN = Verdict("not run", "no rows")


@dataclass(frozen=True, kw_only=True)
class Plan:
    """One experiment, as it was committed before it ran.

    Attributes:
        recipe: raised by hand when a change of code changes the rows.
        budget: by profile, the arguments of the experiment's `run`.
        minutes: by profile, what that takes on two cores.
    """

    name: str
    page: str
    question: str
    expected: str
    rule: str
    recipe: int
    budget: dict[str, dict[str, Any]]
    minutes: dict[str, int | float]
    root: Path = field(default=Path("results"))

    def rows(self, profile: str, keys: Sequence[str], *, part: str = "") -> "Rows":
        """The experiment's table under a profile, or a part of it of its own."""
        path = self.root / profile / "experiments" / f"{self.name}{part and '_' + part}.csv"
        return Rows(path, keys, recipe=self.recipe, sizes="" if part else self.sizes(profile))

    def sizes(self, profile: str) -> str:
        """A digest of the budget, but for how many seeds and which arms."""
        budget = self.budget.get(profile, {})
        kept = {name: value for name, value in budget.items() if name not in ("seeds", "arms")}
        return hashlib.sha256(json.dumps(kept, sort_keys=True).encode()).hexdigest()[:8]

    def judged(self, verdict: Callable[[Any], Verdict], rows: Any, profile: str) -> Verdict:
        """What the rows say by the rule; an answer needs all seeds of the budget."""
        found, seeds = verdict(rows), self.budget.get(profile, {}).get("seeds", 0)
        there = rows["seed"].nunique() if "seed" in rows else seeds
        if rows.empty or there >= seeds:
            return found
        return Verdict(
            "cannot be decided here", f"{found.evidence}; {there} of {seeds} seeds were run"
        )

    def told(self) -> pd.DataFrame:
        """Question, expectation, rule and budget, for the page."""
        lines = {"question": self.question, "expected": self.expected, "rule": self.rule}
        for profile, budget in self.budget.items():
            sizes = ", ".join(f"{name} {value}" for name, value in budget.items())
            lines[f"budget, {profile}"] = f"{sizes}; {self.minutes[profile]:g} minutes on two cores"
        return pd.DataFrame({"": lines})

    def command(self, profile: str = "laptop") -> str:
        """What runs it under a profile."""
        page = f"{self.page}.ipynb"
        return f".venv/bin/papermill notebooks/{page} out.ipynb -p profile {profile}"

    def remark(self, rows: Any, profile: str = "laptop") -> str:
        """Where the rows come from; that they are absent or stale, with the command that helps."""
        run = f"`{self.command(profile)}`"
        if profile in self.minutes:
            run += f" ({self.minutes[profile]:g} minutes on two cores)"
        if rows.empty:
            return f"Not run under {profile}: {run}."
        commits = ", ".join(sorted({str(commit)[:7] for commit in rows[COMMIT]}))
        if stale := (rows[RECIPE] != self.recipe).sum():
            return (
                f"Stale: {stale} of {len(rows)} rows are of another recipe (commit {commits}; "
                f"now recipe {self.recipe}). Run {run} again."
            )
        return f"Profile {profile}, commit {commits}."


def read_plans(path: str | Path = PLANS) -> dict[str, Plan]:
    """Every plan of the file by name, in its order.

    Raises:
        ValueError: if the file is damaged.
    """
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        return {key: Plan(name=key, **value) for key, value in found.items()}
    except (yaml.YAMLError, AttributeError, TypeError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"Could not read {path} ({reason}): restore it") from error


def read_plan(name: str, path: str | Path = PLANS) -> Plan:
    """One plan of the file.

    Raises:
        ValueError: as `read_plans`, or if there is no such experiment.
    """
    plans = read_plans(path)
    if name not in plans:
        raise ValueError(f"experiment must be one of {', '.join(plans)}, got {name!r}")
    return plans[name]


class Rows:
    """A table in a CSV file that grows by rows, each known by some of its columns.

    Each row notes the experiment's recipe, a digest of its sizes and the commit that made it. One
    of another recipe does not count as there, and makes room for a new one. Rows of other sizes,
    from before the budget changed, are left out and not written again.
    """

    def __init__(
        self,
        path: str | Path,
        keys: Sequence[str],
        *,
        recipe: int,
        sizes: str = "",
    ) -> None:
        """Read what is there of these sizes; of any if they are ""."""
        self.path, self.keys, self.recipe, self.sizes = Path(path), list(keys), recipe, sizes
        empty = pd.DataFrame(columns=[*self.keys, RECIPE, SIZES, COMMIT])
        held = pd.read_csv(path, dtype={SIZES: str}) if self.path.is_file() else empty
        self.frame: Any = held[held[SIZES] == sizes] if sizes else held

    def current(self, **at: Any) -> Any:
        """Rows of this recipe with these values."""
        some = self.frame[self.frame[RECIPE] == self.recipe]
        for name, value in at.items():
            some = some[some[name] == value]
        return some

    def __contains__(self, at: Mapping[str, Any]) -> bool:
        """Whether a row of these keys is there."""
        return bool((self._chosen(at) & (self.frame[RECIPE] == self.recipe).to_numpy()).any())

    def add(self, *rows: Mapping[str, Any]) -> None:
        """Append rows, in place of those of the same keys, and write the file."""
        stamp = {RECIPE: self.recipe, SIZES: self.sizes}
        stamp[COMMIT] = machine(Path())["commit"] or "unknown"
        for row in rows:
            held = self.frame[~self._chosen(row)]
            new = pd.DataFrame([{**row, **stamp}])
            self.frame = new if held.empty else pd.concat([held, new], ignore_index=True)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_file(self.path) as part:
            self.frame.to_csv(part, index=False, float_format="%.5g")

    def _chosen(self, at: Mapping[str, Any]) -> np.ndarray:
        each = [np.asarray(self.frame[key] == at[key], dtype=bool) for key in self.keys]
        return np.logical_and.reduce(each)


def by_seed(rows: pd.DataFrame, column: str, *, over: str = "arm") -> Any:
    """A column's values, a line per seed and a column per arm."""
    return rows.pivot(index="seed", columns=over, values=column)


def difference(rows: pd.DataFrame, column: str, one: str, other: str) -> Interval:
    """How far one arm lies above another: mean over seeds, paired, and its 95 % interval."""
    values = by_seed(rows, column)
    return seed_interval((values[one] - values[other]).dropna().to_numpy(float))


def chosen(rows: pd.DataFrame, rates: Sequence[float]) -> Any:
    """The learning rate of each arm, and whether it lies at an end of those tried."""
    ends = {min(rates): " (least tried)", max(rates): " (largest tried)"}
    return rows.groupby("arm")["rate"].first().map(lambda rate: f"{rate:g}{ends.get(rate, '')}")


def means(rows: pd.DataFrame, columns: Sequence[str], *, percent: Sequence[str]) -> pd.DataFrame:
    """Mean over seeds and its interval, a line per arm; those in `percent` times 100."""
    found: dict[str, dict[str, str]] = {}
    for column in columns:
        values = by_seed(rows, column) * (100 if column in percent else 1)
        for arm in values:
            mean, low, high = seed_interval(values[arm].dropna().to_numpy(float))
            text = INTERVAL if column in percent else INTERVAL.replace(".1f", ".2f")
            alone = text.split(" ")[0].format(mean)
            found.setdefault(arm, {})[column] = (
                text.format(mean, low, high) if low == low else alone
            )
    return pd.DataFrame.from_dict(found, orient="index")
