"""Scenes of a STAC catalogue to aligned tiles; the only importer of raster and STAC packages."""

from typing import TYPE_CHECKING, Any

from salib.curate.archive import Archive

if TYPE_CHECKING:
    from salib.curate.run import curate

__all__ = ["Archive", "curate"]


def __getattr__(name: str) -> Any:
    """Load `curate` on first use, so that readers of archives need no raster packages."""
    if name == "curate":
        from salib.curate.run import curate

        return curate
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
