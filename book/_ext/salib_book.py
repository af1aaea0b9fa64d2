"""The one Sphinx extension of the book: what the ledger holds, put into pages.

Roles `num` and `procedural`, directive `procedural`; a page on which a notebook displays a map gets
its script. A key that no notebook wrote is a warning, which stops the build of the book.
"""

import html
import json
import os
import shutil
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective, SphinxRole

from exhibits.provenance import RAN_ON

logger = logging.getLogger(__name__)


class number_node(nodes.inline):
    """A number with its card."""


def read_ledger(results: Path, profile: str) -> dict[str, dict[str, Any]]:
    """Every entry of a profile by key, joined with its page's own fields.

    Raises:
        ValueError: if two notebooks wrote the same key.
    """
    entries: dict[str, dict[str, Any]] = {}
    for path in sorted((results / profile / "ledger").glob("*.json")):
        page = json.loads(path.read_text(encoding="utf-8"))
        shared = {name: page[name] for name in ("notebook", "profile", "seed", "provenance")}
        for key, entry in page["entries"].items():
            if key in entries:
                other = entries[key]["notebook"]
                raise ValueError(f"{key} must be written once, got {other} and {page['notebook']}")
            own = page["provenance"].get("ran_on", {}).get(key)
            entries[key] = {**entry, **shared, "ran_on": own}
    return entries


def card(entry: dict[str, Any]) -> str:
    """What a reader sees on pointing at a number, one fact a line."""
    origin = entry["provenance"]
    ran_on = entry.get("ran_on") or origin
    commit = (origin["commit"] or "unknown")[:10] + (
        " with local changes" if origin["dirty"] else ""
    )
    facts = {
        "value": entry.get("value"),
        "not computed": entry.get("reason"),
        "95 % interval": "{} to {}".format(*entry["ci"]) if entry.get("ci") else None,
        "n": entry.get("n"),
        "images": entry.get("data"),
        "seed": entry["seed"],
        "profile": entry["profile"],
        "notebook": entry["notebook"],
        "commit": commit,
        **{name: ran_on.get(name) for name in RAN_ON},
    }
    return "\n".join(f"{name}: {fact}" for name, fact in facts.items() if fact is not None)


class NumRole(SphinxRole):
    """{num}`key` or {num}`key|.2f`: a number of the ledger, linked to the notebook that made it.

    A key that holds no number is a warning, which stops the build.
    """

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the link; the notebook's page is resolved like any other page."""
        key, _, fmt = (part.strip() for part in self.text.partition("|"))
        entry = self.env.app.salib_ledger.get(key)
        if entry is None or entry["kind"] not in ("number", "missing"):
            fault = f"is a {entry['kind']}, not a number" if entry else "was written by no notebook"
            folder = f"results/{self.config.salib_profile}/ledger"
            where = {"location": self.get_location()}
            logger.warning("ledger key %r %s (looked in %s)", key, fault, folder, **where)
            return [nodes.inline(text=f"?{key}?")], []
        text = "not computed" if entry["kind"] == "missing" else entry["text"]
        if fmt and entry["kind"] == "number":
            text = format(entry["value"], fmt) + (f" {entry['unit']}" if entry["unit"] else "")
        link = addnodes.pending_xref(
            "",
            nodes.inline(text=text),
            refdomain="std",
            reftype="doc",
            reftarget=f"/notebooks/{entry['notebook']}",
            refdoc=self.env.docname,
            refexplicit=True,
            refwarn=True,
        )
        return [number_node("", "", link, card=card(entry), classes=["sa-num"])], []


class ProceduralRole(SphinxRole):
    """{procedural}`words`: a badge that says the thing beside it is made from procedural images."""

    def run(self) -> tuple[list[nodes.Node], list[nodes.system_message]]:
        """Make the badge."""
        return [nodes.inline("", self.text, classes=["sa-badge", "sa-procedural"])], []


class Procedural(SphinxDirective):
    """A line above a figure or table made from procedural images; text is optional."""

    optional_arguments = 1
    final_argument_whitespace = True
    default = "Made from procedural images: no pixel of it was seen by a satellite."

    def run(self) -> list[nodes.Node]:
        """Make the line."""
        text = self.arguments[0] if self.arguments else self.default
        badge = nodes.inline("", "procedural", classes=["sa-badge", "sa-procedural"])
        return [nodes.paragraph("", "", badge, nodes.Text(f" {text}"), classes=["sa-note"])]


def visit_number(writer: Any, node: number_node) -> None:
    """Open the number; the card is drawn by the style sheet from data-card."""
    facts = html.escape(node["card"], quote=True)
    spoken = html.escape(f"{node.astext()} ({node['card']})".replace("\n", "; "), quote=True)
    writer.body.append(
        f'<span class="sa-num" role="group" data-card="{facts}" aria-label="{spoken}">'
    )


def depart_number(writer: Any, node: number_node) -> None:
    """Close the number."""
    writer.body.append("</span>")


def load(app: Sphinx) -> None:
    """Read the ledger once a build."""
    app.salib_ledger = read_ledger(Path(app.config.salib_results), app.config.salib_profile)


def load_map(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Give a page that has a map in it, and no other, the script that draws it."""
    if 'class="sa-map"' in context.get("body", ""):
        app.add_js_file("map.js", loading_method="defer")


def copy_maps(app: Sphinx, fault: Exception | None) -> None:
    """Put the data of maps where the script looks for them.

    Raises:
        FileNotFoundError: if the ledger names a map whose file is gone.
    """
    maps = [entry for entry in app.salib_ledger.values() if entry["kind"] == "map"]
    if fault or app.builder.format != "html" or not maps:
        return
    place = Path(app.outdir) / "_static" / "maps"
    place.mkdir(parents=True, exist_ok=True)
    figures = Path(app.config.salib_results) / app.config.salib_profile / "figures"
    for entry in maps:
        shutil.copyfile(figures / entry["file"], place / entry["file"])


def keep_local(app: Sphinx, page: str, template: str, context: dict, doctree: Any) -> None:
    """Drop thebe and whatever else a page would fetch from another host."""
    for kind in ("script_files", "css_files"):
        context[kind] = [file for file in context[kind] if not _is_foreign(file)]


def _is_foreign(file: Any) -> bool:
    name = str(getattr(file, "filename", None) or file)
    body = str(getattr(file, "attributes", {}).get("body") or "")
    return name.startswith(("http:", "https:", "//")) or "thebe" in (name + body).lower()


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    root = Path(app.srcdir).parent
    app.add_config_value("salib_profile", os.environ.get("SALIB_PROFILE", "smoke"), "env", str)
    app.add_config_value("salib_results", str(root / "results"), "env", str)
    app.add_node(number_node, html=(visit_number, depart_number))
    app.add_role("num", NumRole())
    app.add_role("procedural", ProceduralRole())
    app.add_directive("procedural", Procedural)
    app.connect("builder-inited", load)
    app.connect("html-page-context", load_map)
    app.connect("html-page-context", keep_local, priority=900)
    app.connect("build-finished", copy_maps)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
