"""Scenes to embedding maps, one vector per patch, and search in them; image files to a table."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from salib.mapping.images import embed_images
    from salib.mapping.run import embed_scene
    from salib.mapping.scene import Scene, image_gsd_m, open_scene
    from salib.mapping.search import Similarity, similar

_HOMES = {"images": ("embed_images",), "run": ("embed_scene",), "search": ("Similarity", "similar")}
_HOMES |= {"scene": ("Scene", "image_gsd_m", "open_scene")}
__all__ = [
    "Scene",
    "Similarity",
    "embed_images",
    "embed_scene",
    "image_gsd_m",
    "open_scene",
    "similar",
]


def __getattr__(name: str) -> Any:
    """Load a public name on first use: a table of image files needs no raster packages."""
    for home, names in _HOMES.items():
        if name in names:
            return getattr(import_module(f"salib.mapping.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
