"""The procedural Earth: a landscape as a function of (seed, place), and three sensors over it."""

from salib.world.landscape import THEMES
from salib.world.scenes import write_scenes
from salib.world.triples import Triple, montage_chips, render_triple

__all__ = ["THEMES", "Triple", "montage_chips", "render_triple", "write_scenes"]
