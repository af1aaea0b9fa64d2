"""The ledger: what it keeps, what it refuses, and that one seed gives one page."""

import base64
import hashlib
import json
import math
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib import pyplot

from exhibits.ledger import Ledger
from salib.model.precision import instructions, resolve_device

plain = {"profile": "smoke", "seed": 7}


def draw():
    figure, axes = pyplot.subplots(figsize=(3, 2))
    axes.plot([2, 3, 5], [7, 11, 13], label="primes")
    axes.set_xlabel("place")
    axes.fill_between([2, 3, 5], [1, 2, 3], hatch="//")
    return figure


def write(root, number=0.7, ran_on=None):
    ledger = Ledger("05_table2", root=root, **plain)
    ledger.number("table2.mean", number, ".1%", ci=(0.6, 0.8), n=101, ran_on=ran_on)
    ledger.number("table2.steps", 240)
    ledger.table("table2.main", pd.DataFrame({"k-NN": [0.5]}).style.highlight_max(), "Rows.")
    ledger.figure("table2.curve", draw, "A curve.")
    return ledger.close()


def test_two_runs_of_one_seed_write_the_same_entries_and_figures(tmp_path):
    pages = [json.loads(write(tmp_path / name).read_text()) for name in ("a", "b")]
    assert pages[0]["entries"] == pages[1]["entries"]
    assert pages[0]["sha256"] == pages[1]["sha256"]
    drawn = sorted((tmp_path / "a").rglob("*.svg"))
    assert [path.name for path in drawn] == ["table2.curve.dark.svg", "table2.curve.light.svg"]
    for path in drawn:
        assert path.read_bytes() == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()


def test_another_value_changes_the_sum_but_where_it_ran_does_not(tmp_path):
    first = json.loads(write(tmp_path / "a").read_text())
    assert first["sha256"] != json.loads(write(tmp_path / "b", 0.71).read_text())["sha256"]
    run = {"precision": "bf16", "attention": ["fused", "sdpa"], "instructions": math.nan}
    elsewhere = json.loads(write(tmp_path / "c", ran_on=run | {"seconds": 3}).read_text())
    assert first["entries"] == elsewhere["entries"]
    assert first["sha256"] == elsewhere["sha256"]
    assert first["provenance"]["ran_on"] == {}
    told = {"precision": "bf16", "attention": "fused+sdpa"}
    assert elsewhere["provenance"]["ran_on"] == {"table2.mean": told}
    assert "commit" in first["provenance"]
    assert "commit" not in json.dumps(first["entries"])


def test_the_card_tells_of_the_run_that_gave_a_number_and_else_of_the_page(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent.parent / "book" / "_ext")
    book = pytest.importorskip("salib_book")
    run = {"device": "cuda", "precision": "bf16", "attention": ["fused"], "instructions": "H100"}
    page = json.loads(write(tmp_path, ran_on=run).read_text())
    entries = book.read_ledger(tmp_path / "results", "smoke")
    told = book.card(entries["table2.mean"]).splitlines()
    assert told[-4:] == [
        "device: cuda",
        "instructions: H100",
        "precision: bf16",
        "attention: fused",
    ]
    here = book.card(entries["table2.steps"])
    assert f"device: {page['provenance']['device']}" in here
    assert f"instructions: {page['provenance']['instructions']}" in here
    assert "attention" not in here
    assert page["provenance"]["instructions"] == instructions(resolve_device("auto"))


def test_a_page_says_what_an_auditor_asks_for(tmp_path):
    page = json.loads(write(tmp_path).read_text())
    assert (page["notebook"], page["profile"], page["seed"]) == ("05_table2", "smoke", 7)
    entry = page["entries"]["table2.mean"]
    assert (entry["value"], entry["ci"], entry["n"]) == (0.7, [0.6, 0.8], 101)
    assert entry["data"] == "procedural"
    assert {"device", "python", "versions", "commit", "dirty", "instructions"} <= page[
        "provenance"
    ].keys()


@pytest.mark.parametrize(
    ("value", "fmt", "unit", "text"),
    [(np.float32(0.5), ".2f", None, "0.50"), (np.int64(4096), ",", "tiles", "4,096 tiles")],
)
def test_numpy_scalars_print_as_python_numbers(tmp_path, value, fmt, unit, text):
    assert Ledger("n", root=tmp_path, **plain).number("a.b", value, fmt, unit=unit) == text


@pytest.mark.parametrize("value", [math.nan, math.inf, [1.0], None])
def test_what_is_no_finite_number_is_refused_by_key(tmp_path, value):
    with pytest.raises(ValueError, match=r"value of a\.b must be a finite number"):
        Ledger("n", root=tmp_path, **plain).number("a.b", value)


@pytest.mark.parametrize("key", ["", "A", "a b", "../a", "a..b", "a/b"])
def test_a_key_that_is_no_file_name_is_refused(tmp_path, key):
    with pytest.raises(ValueError, match="key must be lower-case words"):
        Ledger("n", root=tmp_path, **plain).number(key, 1)


@pytest.mark.parametrize("name", ["", "..", "../a", "a/b", "a\\b", ".", "a.b", "a\n", "/a"])
def test_a_notebook_or_profile_whose_name_leaves_its_folder_is_refused(tmp_path, name):
    with pytest.raises(ValueError, match="notebook must be letters"):
        Ledger(name, root=tmp_path, **plain)
    with pytest.raises(ValueError, match="profile must be letters"):
        Ledger("n", name, 7, root=tmp_path)


HOSTILE = "<script>alert(1)</script><img src=x onerror=alert(2)>\"'&"


def tables_of(name):
    """Names and strings of others in each part of a table."""
    frame = pd.DataFrame({name: [0.123456, 2.5], "text": [name, "a"]}, index=["a", name])
    frame.index.name = frame.columns.name = name
    several = frame.set_axis(pd.MultiIndex.from_tuples([(name, "a"), ("b", name)]), axis=1)
    yield frame
    yield frame.style
    yield several.style
    yield frame.style.format(precision=2)
    yield frame[[name]].style.format("{:.1f}").set_caption(name)
    yield several.set_index(("b", name)).style.highlight_max()


@pytest.mark.parametrize("number", range(6))
def test_no_name_reaches_a_page_as_html(tmp_path, number):
    ledger = Ledger("n", root=tmp_path, **plain)
    table = [*tables_of(HOSTILE)][number]
    shown = [ledger.table(f"a.{again}", table, HOSTILE).data for again in (1, 2)]
    shown.append(ledger.missing("a.none", HOSTILE).data)
    shown.append(ledger.figure("a.figure", draw, HOSTILE).data)
    shown.append(ledger.map("a.map", {"attribution": {"radar": HOSTILE}}, HOSTILE).data)
    for text in shown:
        assert "<script" not in text
        assert "onerror=alert(2)>" not in text.replace("&gt;", "")
        assert "&lt;script" in text
        assert "&amp;lt;" not in text
    entry = json.loads(ledger.close().read_text())["entries"]["a.1"]
    assert "<script" not in entry["html"]


def test_formats_of_a_table_stay(tmp_path):
    table = pd.DataFrame({"a": [0.123456], "b": ["x<y"]}).style.format(precision=2)
    shown = Ledger("n", root=tmp_path, **plain).table("a", table, "A.").data
    assert ">0.12</td>" in shown
    assert ">x&lt;y</td>" in shown


def test_a_key_is_written_once(tmp_path):
    ledger = Ledger("n", root=tmp_path, **plain)
    ledger.missing("a", "no data")
    with pytest.raises(ValueError, match="key must be new"):
        ledger.number("a", 1)


def test_nothing_reaches_the_disk_before_close(tmp_path):
    ledger = Ledger("n", root=tmp_path, **plain)
    ledger.figure("a", draw, "A curve.")
    assert list(tmp_path.iterdir()) == []
    assert ledger.close().is_file()


def test_a_figure_has_dark_ink_on_light_pages_and_light_ink_on_dark_ones(tmp_path):
    write(tmp_path)
    for theme, ink, other in (("light", "#1f2328", "#e6edf3"), ("dark", "#e6edf3", "#1f2328")):
        svg = (tmp_path / f"results/smoke/figures/table2.curve.{theme}.svg").read_text()
        assert ElementTree.fromstring(svg).tag.endswith("svg")
        assert ink in svg
        assert other not in svg
        assert "#ffffff" not in svg
        assert "<dc:date>" not in svg


def test_a_finished_figure_is_kept_on_its_own_ground_and_closed(tmp_path):
    ledger = Ledger("n", root=tmp_path, **plain)
    shown = ledger.figure("a", draw(), "A & B.")
    assert pyplot.get_fignums() == []
    assert "A &amp; B." in shown.data
    ledger.close()
    assert [path.name for path in tmp_path.rglob("*.svg")] == ["a.light.svg"]


def test_a_map_is_a_script_that_holds_its_layers_and_says_what_it_is_made_from(tmp_path):
    layers = {"tiles": {"radar": b"PM\x00\xff", "lores": b""}, "bounds": [1.5, -2.0, 3, 5]}
    written = []
    for run in ("a", "b"):
        ledger = Ledger("n", root=tmp_path / run, **plain)
        shown = ledger.map("c.map", layers, "A < B.")
        page = json.loads(ledger.close().read_text())
        written.append((tmp_path / run / "results/smoke/figures/c.map.js").read_bytes())
    assert written[0] == written[1]
    entry = page["entries"]["c.map"]
    assert entry["sha256"] == hashlib.sha256(written[0]).hexdigest()
    assert (entry["kind"], entry["data"], entry["caption"]) == ("map", "procedural", "A < B.")
    head, _, content = written[0].decode().partition(" = ")
    assert head == '(window.salibMaps ??= {})["c.map"]'
    held = json.loads(content.rstrip(";\n"))
    assert {name: base64.b64decode(text) for name, text in held["tiles"].items()} == layers["tiles"]
    assert (held["bounds"], held["data"]) == (layers["bounds"], "procedural")
    assert f'data-map="c.map" data-sum="{entry["sha256"][:12]}"' in shown.data
    assert "A &lt; B." in shown.data
    assert "procedural</span>" in shown.data


def test_layers_that_no_page_can_hold_are_refused(tmp_path):
    ledger = Ledger("n", root=tmp_path, **plain)
    with pytest.raises(ValueError, match="layers must hold JSON values and bytes, got set"):
        ledger.map("c.map", {"tiles": {1}}, "A map.")
