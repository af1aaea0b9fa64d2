"""What a protocol fixes where the paper's text is silent."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

from exhibits.tables.rows import Table

KNOWN = {
    "text": "the text says so",
    "inferred": "inferred from Table 2",
    "assumed": "assumed",
}


def choices(assumptions: Iterable[Any]) -> pd.DataFrame:
    """Each choice under the default protocol and the paper's; what is known best comes first.

    Args:
        assumptions: of `exhibits.assumptions`.

    Returns:
        Indexed by choice: "default", "paper", "of the paper", "differ" ("yes" or "").

    Raises:
        ValueError: if a choice is known in a way that has no name here.
    """
    table: Table = pd.DataFrame(
        [(each.choice, each.default, each.paper, each.known) for each in assumptions],
        columns=["choice", "default", "paper", "of the paper"],
    )
    if unknown := sorted({*table["of the paper"]} - {*KNOWN}):
        raise ValueError(f"known must be one of {tuple(KNOWN)}, got {', '.join(unknown)}")
    order = table["of the paper"].map([*KNOWN].index).sort_values(kind="stable").index
    table = table.loc[order].replace({"of the paper": KNOWN})
    differ = ["yes" if a != b else "" for a, b in table[["default", "paper"]].to_numpy()]
    return table.assign(differ=differ).set_index("choice")
