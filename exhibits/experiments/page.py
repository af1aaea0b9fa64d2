"""What an experiment's page shows: its plan, the committed rows, a small run of its own."""

from collections.abc import Callable
from typing import Any

from IPython.display import HTML

from exhibits.experiments.plans import read_plan
from exhibits.ledger import Data, Ledger

SHOWN = "laptop"
"""The profile whose committed rows a page shows."""


class Page:
    """An experiment on a page: run under the page's profile, shown from the committed rows.

    Attributes:
        plan: what was committed before the run.
        own: rows of the page's own run; none without a budget for its profile.
        rows: committed rows, which figures, tables and the verdict are of.
    """

    def __init__(
        self, ledger: Ledger, name: str, module: Any, *, data: Data = "procedural"
    ) -> None:
        """Run what the plan's budget for the ledger's profile allows.

        Args:
            ledger: of the page.
            name: of the experiment; entries of the ledger begin with it.
            module: of `exhibits.experiments`, with `KEYS`, `run` and `verdict`.
            data: what images the experiment is made with.
        """
        self.ledger, self.name, self.module = ledger, name, module
        self.data: Data = data
        self.plan = read_plan(name)
        self.own = module.run(self.plan, ledger.profile)
        self.rows = self.plan.rows(SHOWN, module.KEYS).frame

    def told(self) -> HTML:
        """Question, expectation, rule and budget; numbers "verdict", "evidence" and "rows"."""
        verdict = self.plan.judged(self.module.verdict, self.rows, SHOWN)
        for key, text in (*verdict._asdict().items(), ("rows", self.plan.remark(self.rows, SHOWN))):
            key = "verdict" if key == "answer" else key
            self.ledger.number(f"{self.name}.{key}", text, data=self.data)
        caption = "What was asked, expected and agreed before the run."
        return self.ledger.table(f"{self.name}.plan", self.plan.told(), caption, data="none")

    def figure(self, key: str, draw: Callable, caption: str) -> HTML:
        """A figure of the committed rows, or that there are none, with the command."""
        if self.rows.empty:
            return self.ledger.missing(f"{self.name}.{key}", self.plan.remark(self.rows, SHOWN))
        drawn, key = (lambda: draw(self.rows)), f"{self.name}.{key}"
        return self.ledger.figure(key, drawn, caption, data=self.data)

    def table(self, key: str, make: Callable, caption: str) -> HTML:
        """A table of the committed rows, or that there are none, with the command."""
        if self.rows.empty:
            return self.ledger.missing(f"{self.name}.{key}", self.plan.remark(self.rows, SHOWN))
        return self.ledger.table(f"{self.name}.{key}", make(self.rows), caption, data=self.data)

    def small(self, make: Callable) -> HTML:
        """A table of the page's own run, if its profile has one."""
        if self.own.empty:
            reason = self.plan.remark(self.own, self.ledger.profile)
            return self.ledger.missing(f"{self.name}.own", reason)
        sizes = ", ".join(f"{n} {v}" for n, v in self.plan.budget[self.ledger.profile].items())
        caption = f"The same, run while this book was built, at a small size ({sizes})."
        return self.ledger.table(f"{self.name}.own", make(self.own), caption, data=self.data)
