"""Embedding maps: a georeferenced scene to one vector a patch, and search by similarity in it."""

from salib.mapping.run import embed_scene
from salib.mapping.scene import Scene, image_gsd_m, open_scene
from salib.mapping.search import Similarity, similar

__all__ = ["Scene", "Similarity", "embed_scene", "image_gsd_m", "open_scene", "similar"]
