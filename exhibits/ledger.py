"""The only way a notebook hands a number, table or figure to the book.

A page of the ledger is `results/<profile>/ledger/<notebook>.json`. `sha256` sums up its `entries`,
on which two runs of one seed must agree; `provenance` says where and with what they were computed,
its `ran_on` for numbers of another run.
"""

import base64
import copy
import hashlib
import html
import io
import json
import math
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from IPython.display import HTML

from exhibits.provenance import machine, run_facts
from salib.files.artifact import atomic_file

Data = Literal["procedural", "real", "paper", "none"]

SCHEMA = 1
KEY = re.compile(r"[a-z0-9]+([._-][a-z0-9]+)*")
NAME = re.compile(r"[A-Za-z0-9_-]+")
BADGES = {"procedural": "procedural", "real": "real images", "paper": "printed in the paper"}
MAP_ABSENT = '<p class="sa-missing">In the book, where scripts may run, a map stands here.</p>'
INK = {"light": "#1f2328", "dark": "#e6edf3"}


class Ledger:
    """The page of one notebook; nothing reaches the disk before `close`.

    Args:
        notebook: stem of the notebook's file, such as "05_table2".
        profile: name of the profile that set the parameters.
        seed: the integer that seeds the run.
        root: the repository's root, from which notebooks run.
    """

    def __init__(self, notebook: str, profile: str, seed: int, *, root: str | Path = ".") -> None:
        """Open an empty page.

        Raises:
            ValueError: if the notebook or the profile has no name of a file.
        """
        for what, name in (("notebook", notebook), ("profile", profile)):
            if not NAME.fullmatch(name):
                raise ValueError(f"{what} must be letters, digits, _ or -, got {name!r}")
        self.notebook, self.profile, self.seed, self.root = notebook, profile, seed, Path(root)
        self.entries: dict[str, dict[str, Any]] = {}
        self._files: dict[str, bytes] = {}
        self._ran_on: dict[str, dict[str, str]] = {}

    def number(
        self,
        key: str,
        value: Any,
        fmt: str | None = None,
        *,
        ci: tuple[float, float] | None = None,
        n: int | None = None,
        unit: str | None = None,
        data: Data = "procedural",
        ran_on: Mapping[str, Any] | None = None,
    ) -> str:
        """Record one number (or word) and return it as the book will print it.

        Args:
            key: name within the book, such as "table2.scale_alibi.mean"; prose says {num}`key`.
            value: an int, a finite float or a string, of Python, NumPy or torch.
            fmt: format specification such as ".1f"; `str` without it.
            ci: lower and upper end of the 95 % interval.
            n: how many observations it rests on.
            unit: printed after the number, such as "%".
            data: what images it was made from.
            ran_on: of the run that gave it (`provenance.run_facts`), if not the page's own.

        Raises:
            ValueError: if the key is malformed or taken, or the value or interval is not finite.
        """
        value = _plain(key, value)
        interval = None if ci is None else [_plain(key, end) for end in ci]
        text = f"{value:{fmt or ''}}" + (f" {unit}" if unit else "")
        entry = {"kind": "number", "value": value, "text": text, "fmt": fmt, "unit": unit}
        self._add(key, {**entry, "ci": interval, "n": n, "data": data})
        if facts := run_facts(ran_on or {}):
            self._ran_on[key] = facts
        return text

    def table(self, key: str, table: Any, caption: str, *, data: Data = "procedural") -> HTML:
        """Record a DataFrame, a pandas Styler or finished HTML and return it for display."""
        if hasattr(table, "set_uuid"):
            markup = _styled_html(table, re.sub(r"\W", "-", key))
        else:
            markup = table if isinstance(table, str) else table.to_html(border=0)
        self._add(key, {"kind": "table", "html": markup, "caption": caption, "data": data})
        text = f'<p class="sa-caption">{_caption(caption, data)}</p>'
        return HTML(f'{text}<div class="sa-table">{markup}</div>')

    def figure(self, key: str, figure: Any, caption: str, *, data: Data = "procedural") -> HTML:
        """Record a figure as SVG, the same bytes for the same drawing, and return it for display.

        Args:
            key: name within the book; also the stem of the file.
            figure: a function that draws and returns a matplotlib figure, called with dark ink for
                the light theme and with light ink for the dark one, on a transparent ground. A
                finished figure is kept on its own ground.
            caption: one or two sentences, in the book's Markdown.
            data: what images it was made from.
        """
        if callable(figure):
            drawn = {theme: _svg(figure, key, theme) for theme in INK}
        else:
            drawn = {"light": _svg(lambda: figure, key, None)}
        files = {theme: f"{key}.{theme}.svg" for theme in drawn}
        sums = {theme: hashlib.sha256(drawn[theme]).hexdigest() for theme in drawn}
        entry = {"kind": "figure", "files": files, "sha256": sums, "caption": caption, "data": data}
        self._add(key, entry)
        self._files.update({files[theme]: drawn[theme] for theme in drawn})
        return HTML(_figure_html(drawn, caption, data))

    def map(
        self, key: str, layers: dict[str, Any], caption: str, *, data: Data = "procedural"
    ) -> HTML:
        """Record an interactive map as a script for the book's page, and return its element.

        Args:
            key: name within the book; also the stem of the file.
            layers: of `exhibits.maps.map_layers`; bytes in it become base64.
            caption: one or two sentences, in the book's Markdown.
            data: what images it was made from; also shown on the map.
        """
        content = {"data": data, "badge": BADGES.get(data, ""), **layers}
        text = json.dumps(content, default=_base64, separators=(",", ":"), allow_nan=False)
        script = f"(window.salibMaps ??= {{}})[{json.dumps(key)}] = {text};\n".encode()
        file, digest = f"{key}.js", hashlib.sha256(script).hexdigest()
        entry = {"kind": "map", "file": file, "sha256": digest, "caption": caption, "data": data}
        self._add(key, entry)
        self._files[file] = script
        holder = f'<div class="sa-map" data-map="{key}" data-sum="{digest[:12]}">{MAP_ABSENT}</div>'
        below = f"<figcaption>{_caption(caption, data)}</figcaption>"
        return HTML(f'<figure class="sa-figure">{holder}{below}</figure>')

    def missing(self, key: str, reason: str) -> HTML:
        """Record that an entry could not be made, and why; the book shows the reason instead."""
        self._add(key, {"kind": "missing", "reason": reason})
        return HTML(f'<p class="sa-missing">Not computed: {html.escape(reason)}</p>')

    def close(self) -> Path:
        """Write figures and maps, then the page, and return the page's path."""
        results = self.root / "results" / self.profile
        for name, content in self._files.items():
            with atomic_file(results / "figures" / name) as part:
                part.write_bytes(content)
        entries = json.dumps(self.entries, sort_keys=True)
        page = {
            "schema": SCHEMA,
            "notebook": self.notebook,
            "profile": self.profile,
            "seed": self.seed,
            "entries": dict(sorted(self.entries.items())),
            "sha256": hashlib.sha256(entries.encode()).hexdigest(),
            "provenance": {**machine(self.root), "ran_on": dict(sorted(self._ran_on.items()))},
        }
        path = results / "ledger" / f"{self.notebook}.json"
        with atomic_file(path) as part:
            part.write_text(json.dumps(page, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
        return path

    def _add(self, key: str, entry: dict[str, Any]) -> None:
        if not KEY.fullmatch(key):
            raise ValueError(f"key must be lower-case words joined by . _ or -, got {key!r}")
        if key in self.entries:
            raise ValueError(f"key must be new to this notebook, got {key!r} a second time")
        self.entries[key] = entry


def _styled_html(table: Any, uuid: str) -> str:
    """A Styler's HTML; unlike a DataFrame it does not escape names and strings by default."""
    escaped, table = {"escape": "html"}, copy.deepcopy(table)
    texts = table.data.map(lambda cell: isinstance(cell, str)).any()
    if texts.any():
        table.format(subset=texts[texts].index.tolist(), **escaped)
    table.format_index(axis=0, **escaped).format_index(axis=1, **escaped).set_uuid(uuid)
    table.data = table.data.rename_axis(index=_escaped, columns=_escaped)
    return table.to_html(caption=_escaped(table.caption))


def _escaped(text: Any) -> Any:
    return text and html.escape(str(text), quote=False)


def _plain(key: str, value: Any) -> int | float | str:
    value = value.item() if hasattr(value, "item") else value
    if not isinstance(value, int | float | str) or (
        isinstance(value, float) and not math.isfinite(value)
    ):
        raise ValueError(f"value of {key} must be a finite number or a string, got {value!r}")
    return value


def _base64(content: Any) -> str:
    if not isinstance(content, bytes):
        raise ValueError(f"layers must hold JSON values and bytes, got {type(content).__name__}")
    return base64.b64encode(content).decode()


def _svg(draw: Callable[[], Any], key: str, theme: str | None) -> bytes:
    """A drawing in the ink of a theme, without a ground; or, without a theme, as it is."""
    from matplotlib import pyplot, rc_context

    style: Any = {}
    if theme is not None:
        inked = ("text.color", "axes.edgecolor", "axes.labelcolor", "xtick.color", "ytick.color")
        style = dict.fromkeys((*inked, "patch.edgecolor", "hatch.color"), INK[theme])
        style |= {"figure.facecolor": "none", "axes.facecolor": "none", "legend.framealpha": 0.0}
    out, options = io.BytesIO(), {"format": "svg", "bbox_inches": "tight"}
    with rc_context(style | {"svg.hashsalt": key, "svg.fonttype": "path"}):
        figure = draw()
        figure.savefig(out, transparent=theme is not None, metadata={"Date": None}, **options)
    pyplot.close(figure)
    return out.getvalue()


def _caption(caption: str, data: Data) -> str:
    math = r'<span class="math">\\(\1\\)</span>'
    text = re.sub(r"\$(.+?)\$", math, html.escape(caption, quote=False))
    badge = f'<span class="sa-badge sa-{data}">{BADGES[data]}</span>' if data in BADGES else ""
    return f"{text} {badge}".strip()


def _figure_html(drawn: dict[str, bytes], caption: str, data: Data) -> str:
    # The dark image hides itself, so that outside the book only one is seen.
    images = ""
    for theme, svg in drawn.items():
        name = f"sa-{theme}" if len(drawn) == len(INK) else "sa-paper"
        hidden = ' style="display:none"' if theme == "dark" else ""
        source = f"data:image/svg+xml;base64,{base64.b64encode(svg).decode()}"
        images += f'<img class="{name}"{hidden} alt="{html.escape(caption)}" src="{source}">'
    text = f"<figcaption>{_caption(caption, data)}</figcaption>"
    return f'<figure class="sa-figure"><div>{images}</div>{text}</figure>'
