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
    listed = list(assumptions)
    if unknown := sorted({choice.known for choice in listed} - set(KNOWN)):
        raise ValueError(f"known must be one of {tuple(KNOWN)}, got {', '.join(unknown)}")
    order = list(KNOWN)
    lines = [
        {
            "choice": choice.choice,
            "default": choice.default,
            "paper": choice.paper,
            "of the paper": KNOWN[choice.known],
            "differ": "yes" if choice.default != choice.paper else "",
        }
        for choice in sorted(listed, key=lambda choice: order.index(choice.known))
    ]
    return pd.DataFrame(lines).set_index("choice")
