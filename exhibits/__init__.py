"""What the pages of the book show and only they call: ledger, tables, figures, audit."""

from typing import TYPE_CHECKING

import lazy_loader

if TYPE_CHECKING:
    from exhibits.comparison import compare as compare
    from exhibits.ledger import Ledger as Ledger

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__, submod_attrs={"comparison": ["compare"], "ledger": ["Ledger"]}
)
