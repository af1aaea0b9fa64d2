"""The procedural Earth: a landscape as a function of (seed, place), and three sensors over it."""

from typing import TYPE_CHECKING, Any

from salib.world.landscape import THEMES
from salib.world.triples import Triple, montage_chips, render_triple

if TYPE_CHECKING:
    from salib.world.geobench_writer import write_geobench
    from salib.world.scenes import write_scenes

__all__ = [
    "THEMES",
    "Triple",
    "montage_chips",
    "render_triple",
    "write_geobench",
    "write_scenes",
]


def __getattr__(name: str) -> Any:
    """Import the writers when they are first asked for: they need the optional packages."""
    if name == "write_geobench":
        from salib.world.geobench_writer import write_geobench

        return write_geobench
    if name == "write_scenes":
        from salib.world.scenes import write_scenes

        return write_scenes
    raise AttributeError(f"module 'salib.world' has no attribute {name!r}")
