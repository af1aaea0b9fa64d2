"""The procedural Earth: a landscape as a function of seed and location, and three sensors."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "landscape.themes": ["THEMES"],
        "triples": ["Triple", "montage_chips", "render_triple"],
        "tasks.write": ["write_geobench"],
        "scenes.write": ["write_scenes"],
    },
)
