"""What three sensors see of one square of ground."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from earth import sensors
from earth.landscape.fields import Grid, Rng
from earth.landscape.lines import ALONG_X, KINDS, line_of
from earth.landscape.themes import THEMES, paint, region, theme_numbers
from salib.files.artifact import MADE_FROM, atomic_dir, check_replaceable

LORES_M = 10.0
_SIDE_PX, _MARGIN_PX = 64, 8


class Triple(NamedTuple):
    """Images of one square of 64 lores pixels of 10 m; hires has two for each along both sides."""

    radar: UInt8[np.ndarray, "rows cols 2"]
    lores: UInt8[np.ndarray, "rows cols 3"]
    hires: UInt8[np.ndarray, "finerows finecols 3"]


def render_triple(seed: int, x_m: float, y_m: float) -> Triple:
    """Radar, lores and hires of the ground square with its north-west corner at (x_m, y_m).

    The same seed and location always give the same bytes. The ground is a function of location;
    each square is seen under its own weather, noise and speckle.

    Args:
        x_m: metres east in the world's plane.
        y_m: metres south.

    Raises:
        ValueError: if seed is negative.
    """
    if seed < 0:
        raise ValueError(f"seed must not be negative, got {seed}")
    fine_m, side, edge = LORES_M / 2, 2 * (_SIDE_PX + _MARGIN_PX), _MARGIN_PX
    west, north = x_m - edge * fine_m, y_m - edge * fine_m
    grid = Grid(x_m=west, y_m=north, gsd_m=fine_m, rows=side, cols=side)
    key = [round(value * 1000) + 2**40 for value in (x_m, y_m, LORES_M)]
    rng = np.random.default_rng([seed, 11, *key])
    ground = paint(seed, grid)
    hires = sensors.Weather.draw(rng, strength=0.8).apply(ground[:3])
    hires = sensors.grained(rng, hires[:, edge:-edge, edge:-edge], rng.uniform(0.5, 2.0))
    seen = np.concatenate([ground[:3], sensors.backscatter(ground)])
    coarse = sensors.average(sensors.spread(seen, 2 * rng.uniform(0.3, 0.6)), _SIDE_PX + edge)
    coarse = coarse[:, edge // 2 : -edge // 2, edge // 2 : -edge // 2]
    lores = sensors.Weather.draw(rng).apply(_cloud(rng, coarse[:3]))
    lores = sensors.grained(rng, lores, rng.uniform(0.3, 1.4))
    dn = sensors.amplitude(rng, coarse[3:] * np.float32(np.exp(0.14 * rng.normal())))
    images = sensors.radar_uint8(dn), *(sensors.rounded(rgb, least=0) for rgb in (lores, hires))
    return Triple(*(np.ascontiguousarray(image.transpose(1, 2, 0)) for image in images))


def montage_chips(seed: int, per_theme: int) -> dict[str, UInt8[np.ndarray, "count rows cols 3"]]:
    """Lores chips of each theme, and of rivers and motorways, to set beside real ones.

    Raises:
        ValueError: if per_theme is not positive.
    """
    if per_theme <= 0:
        raise ValueError(f"per_theme must be positive, got {per_theme}")
    return {
        name: np.stack([render_triple(seed, *xy).lores for xy in squares(seed, name, per_theme)])
        for name in (*THEMES, "river", "motorway")
    }


def write_chips(out: str | Path, *, seed: int, per_theme: int) -> Path:
    """Write lores chips as PNG: `chips/<theme>/` by class, `ground/` with masks of the themes.

    Args:
        out: folder to write, whole or not at all; `ground/images` and `ground/masks` have the same
            names, and a mask the theme's place in THEMES.
        seed: of the world.
        per_theme: chips of each theme.

    Raises:
        ValueError: if per_theme is not positive, or `out` holds something else.
    """
    if per_theme <= 0:
        raise ValueError(f"per_theme must be positive, got {per_theme}")
    check_replaceable(out, "chips", "ground", MADE_FROM)
    with atomic_dir(out) as part:
        for name in THEMES:
            for number, (x, y) in enumerate(squares(seed, name, per_theme)):
                grid = Grid(x_m=x, y_m=y, gsd_m=LORES_M, rows=_SIDE_PX, cols=_SIDE_PX)
                mask = theme_numbers(seed, grid).astype(np.uint8)
                image, file = render_triple(seed, x, y).lores, f"{name}-{number:03d}.png"
                for folder, pixels in (
                    (f"chips/{name}", image),
                    ("ground/images", image),
                    ("ground/masks", mask),
                ):
                    (part / folder).mkdir(parents=True, exist_ok=True)
                    Image.fromarray(pixels).save(part / folder / file)
    return Path(out)


def squares(
    seed: int, theme: str, count: int, *, side_m: float = 640.0, salt: int = 0
) -> list[tuple[float, float]]:
    """North-west corners of squares that show a theme, or a "river" or "motorway"."""
    rng = np.random.default_rng([seed, 13, *theme.encode(), salt])
    corners = []
    while len(corners) < count:
        i, j = (int(value) for value in rng.integers(-2000, 2000, 2))
        off = rng.uniform(-0.25, 0.25, 2) * side_m
        if theme in THEMES:
            site = region(seed, i, j)
            if site.theme != theme:
                continue
            x, y = site.x_m, site.y_m
        else:
            kind = next(kind for kind in KINDS if kind.name == theme)
            line = line_of(seed, kind, int(i % 2), j)
            x, y = i * 1000.0, float(line.across(np.array([i * 1000.0]))[0, 0])
            x, y = (x, y) if line.axis == ALONG_X else (y, x)
            spot = Grid(x_m=x, y_m=y, gsd_m=1.0, rows=1, cols=1)
            if THEMES[int(theme_numbers(seed, spot)[0, 0])] == "water":
                continue
        corners.append((x + off[0] - side_m / 2, y + off[1] - side_m / 2))
    return corners


def _cloud(rng: Rng, rgb: np.ndarray) -> np.ndarray:
    """A soft cloud over part of one image in twenty-five."""
    luck, x, y, width = rng.random(4)
    if luck > 0.04:
        return rgb
    rows, cols = (np.linspace(0, 1, side, dtype=np.float32) for side in rgb.shape[1:])
    away = ((rows[:, None] - y) ** 2 + (cols[None] - x) ** 2) / (0.02 + 0.2 * width) ** 2
    veil = np.float32(0.85) * np.exp(-away).astype(np.float32)
    return rgb + veil * (235 - rgb)
