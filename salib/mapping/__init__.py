"""Scenes to embedding maps, one vector per patch, and search in them; image files to a table."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "images": ["embed_images"],
        "run": ["embed_scene"],
        "raster": ["Raster"],
        "scene": ["open_scene"],
        "search": ["similar"],
    },
)
