"""Scenes of a STAC catalogue to aligned tiles; the only importer of raster and STAC packages."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from salib.curate.archive import Archive

if TYPE_CHECKING:
    from salib.curate.area import SPECS
    from salib.curate.catalog import Rules
    from salib.curate.engine import Engine
    from salib.curate.index import Filters
    from salib.curate.run import curate

__all__ = ["SPECS", "Archive", "Engine", "Filters", "Rules", "curate"]

_WHERE = {
    "SPECS": "area",
    "Engine": "engine",
    "Filters": "index",
    "Rules": "catalog",
    "curate": "run",
}


def __getattr__(name: str) -> Any:
    """Load a name on first use, so that readers of archives need no raster packages."""
    if name in _WHERE:
        return getattr(import_module(f"salib.curate.{_WHERE[name]}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
