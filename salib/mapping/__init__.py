"""Scenes to embedding maps, one vector per patch, and search in them; image files to a table."""

from salib.mapping.images import embed_images
from salib.mapping.run import embed_scene
from salib.mapping.scene import Scene, image_gsd_m, open_scene
from salib.mapping.search import Similarity, similar

__all__ = [
    "Scene",
    "Similarity",
    "embed_images",
    "embed_scene",
    "image_gsd_m",
    "open_scene",
    "similar",
]
