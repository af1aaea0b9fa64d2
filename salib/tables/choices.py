"""What a protocol fixes where the paper's text is silent."""

from collections.abc import Iterable
from typing import Any

import pandas as pd

KNOWN = {
    "text": "the text says so",
    "inferred": "inferred from Table 2",
    "assumed": "assumed",
}


def choices(assumptions: Iterable[Any]) -> pd.DataFrame:
    """Each choice under the default protocol and the paper's; what is known best comes first.

    Args:
        assumptions: of `salib.evaluate.protocol.assumptions`.

    Returns:
        Indexed by choice: "default", "paper", "of the paper", "differ" ("yes" or "").

    Raises:
        ValueError: if a choice is known in a way that has no name here.
    """
    lines = pd.DataFrame(list(assumptions))
    if unknown := sorted(set(lines["known"]) - set(KNOWN)):
        raise ValueError(f"known must be one of {tuple(KNOWN)}, got {', '.join(unknown)}")
    order = lines["known"].map(list(KNOWN).index)
    lines = lines.loc[order.sort_values(kind="stable").index]
    shown = lines.set_index("choice")[["default", "paper"]]
    shown["of the paper"] = lines["known"].map(KNOWN).to_numpy()
    shown["differ"] = ["yes" if a != b else "" for a, b in lines[["default", "paper"]].to_numpy()]
    return shown
