"""What stands between notebooks and pages: the graph of tasks and the Sphinx extension."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from exhibits.ledger import Ledger

ROOT = Path(__file__).parent.parent
ARTIFACT = "salib/files/artifact.py"
LEDGER = ("exhibits/ledger.py", "exhibits/provenance.py")
sys.path.insert(0, str(ROOT / "book" / "_ext"))
import run_notebook  # noqa: E402
import salib_book  # noqa: E402

CONF = """
extensions = ["myst_parser", "salib_book"]
myst_enable_extensions = ["colon_fence", "dollarmath"]
html_js_files = ["https://example.org/a.js", "b.js"]
"""
PROSE = """# Page

Right in {num}`t.mean` and {num}`t.mean|.3f` of {num}`t.none`; {procedural}`x`.

:::{procedural}
:::
"""


def sphinx(tmp_path, prose):
    """Build a page of the book beside a ledger of one notebook; return the run and the HTML."""
    ledger = Ledger("05_table2", "smoke", 3, root=tmp_path)
    ledger.number("t.mean", 0.71234, ".1%", ci=(0.5, 0.75), n=1009)
    ledger.table("t.rows", "<table><tr><td>17</td></tr></table>", "Rows of *it*.", data="real")
    ledger.missing("t.none", "needs SALIB_DATA_DIR")
    ledger.map("t.map", {"bounds": [2, 3, 5, 7]}, "A map.")
    ledger.close()
    source = tmp_path / "book"
    (source / "notebooks").mkdir(parents=True)
    (source / "conf.py").write_text(CONF)
    (source / "index.md").write_text(prose + "\n:::{toctree}\nnotebooks/05_table2\n:::\n")
    (source / "notebooks" / "05_table2.md").write_text("# Table 2\n")
    run = subprocess.run(
        [sys.executable, "-m", "sphinx", "-qWb", "html", "--keep-going", source, tmp_path / "out"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "book" / "_ext"), "SALIB_PROFILE": "smoke"},
        capture_output=True,
        text=True,
    )
    page = tmp_path / "out" / "index.html"
    return run, page.read_text() if page.is_file() else ""


def test_what_the_ledger_holds_stands_in_the_page_with_its_origin(tmp_path):
    run, page = sphinx(tmp_path, PROSE)
    assert run.returncode == 0, run.stderr
    text = re.sub(r"<[^>]+>", "", page)
    assert "Right in 71.2% and 0.712 of not computed; x" in text
    assert "95 % interval: 0.5 to 0.75\nn: 1009\nimages: procedural\nseed: 3" in page
    assert page.count('href="notebooks/05_table2.html"') >= 3
    assert "not computed: needs SALIB_DATA_DIR" in page
    assert page.count('class="sa-badge sa-procedural"') == 2


def test_no_page_asks_another_host_for_a_script(tmp_path):
    _, page = sphinx(tmp_path, "# Page\n")
    assert "example.org" not in page
    assert "b.js" in page


def test_only_a_page_with_a_map_gets_its_script_and_the_data_lies_beside(tmp_path):
    run, page = sphinx(tmp_path, '# Page\n\n<div class="sa-map" data-map="t.map"></div>\n')
    assert run.returncode == 0, run.stderr
    assert re.search(r'<script defer="defer" src="_static/map\.js', page)
    assert "map.js" not in (tmp_path / "out" / "notebooks" / "05_table2.html").read_text()
    assert '"bounds":[2,3,5,7]' in (tmp_path / "out/_static/maps/t.map.js").read_text()


def test_keys_that_are_not_there_stop_the_build_and_are_named_with_their_lines(tmp_path):
    faults = {
        "{num}`t.other`": "'t.other' was written by no notebook",
        "{num}`t.rows`": "'t.rows' is a table, not a number",
    }
    run, _ = sphinx(tmp_path, "# Page\n\n" + "\n\n".join(faults))
    assert run.returncode != 0
    for line, message in zip((3, 5), faults.values(), strict=True):
        assert re.search(rf"index\.md:{line}: WARNING: ledger key {message}", run.stderr), (
            run.stderr
        )


def test_two_notebooks_that_write_one_key_are_both_named(tmp_path):
    for notebook in ("03_model", "05_table2"):
        ledger = Ledger(notebook, "smoke", 3, root=tmp_path)
        ledger.number("t.mean", 1)
        ledger.close()
    with pytest.raises(ValueError, match=r"t\.mean must be written once, got 03_model and 05_t"):
        salib_book.read_ledger(tmp_path / "results", "smoke")


def test_progress_bars_times_and_random_ids_do_not_reach_a_page():
    bar = "\r  0%|          | 0/30 [00:00<?, ?it/s]\r100%|####| 30/30 [00:02<00:00, 12.5it/s]\n"
    streams = [
        {"output_type": "stream", "name": "stderr", "text": bar},
        {"output_type": "stream", "name": "stderr", "text": bar + "UserWarning: 5 of 7\n"},
        {"output_type": "stream", "name": "stdout", "text": "step 1\rstep 2\n50 % done\n"},
    ]
    cell = {
        "cell_type": "code",
        "id": "1f2e",
        "metadata": {
            "tags": ["injected-parameters"],
            "papermill": {"start_time": "now"},
            "execution": {"iopub.execute_input": "now"},
        },
        "outputs": streams,
    }
    executed = {"cells": [cell], "metadata": {"papermill": {}, "kernelspec": {"name": "python3"}}}
    page = run_notebook.normalise(executed, "05_table2")
    texts = [output["text"] for output in page["cells"][0]["outputs"]]
    assert texts == ["UserWarning: 5 of 7\n", "step 2\n50 % done\n"]
    assert page["cells"][0]["id"] == "05_table2-injected"
    assert page["cells"][0]["metadata"] == {"tags": ["injected-parameters"]}
    assert page["metadata"] == {"kernelspec": {"name": "python3"}}


def test_code_depends_on_what_it_imports_and_nothing_downstream():
    paths = run_notebook.module_files("from salib.training import train\nimport pandas")
    names = {path.relative_to(ROOT).as_posix() for path in paths}
    expected = {"training/train.py", "training/step.py", "model/fusion.py", "bias.py"}
    assert {f"salib/{name}" for name in (*expected, "tiles/archive.py")} <= names
    assert not [
        name for name in names if name.startswith(("exhibits", "salib/cli", "salib/curate"))
    ]


class Project:
    """A small copy of the repository with one notebook in it."""

    def __init__(self, root):
        self.root = root
        shutil.copytree(ROOT / "book" / "_ext", root / "book" / "_ext")
        copied = (ARTIFACT, "salib/files/disk.py", *LEDGER)
        for name in ("dodo.py", "requirements.lock", "profiles/smoke.yml", *copied):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, root / name)
        for package in ("exhibits", "salib", "salib/files"):
            (root / package / "__init__.py").write_text("")
        (root / "notebooks").mkdir()
        self.page = root / "build" / "pages" / "smoke" / "01_curation.ipynb"

    def write(self, code, prose="words"):
        """A notebook that records one number and leaves what later ones read."""
        head = "from exhibits.ledger import Ledger\nfrom pathlib import Path"
        lines = f'ledger = Ledger("01_curation", profile, seed)\nledger.number("c.n", {code})'
        lines += '\nfolder = Path("runs/smoke/tiles")\nfolder.mkdir(parents=True, exist_ok=True)'
        lines += '\n(folder / "made_from.json").write_text("{}")'
        blocks = [(head, []), ("seed = 5\nprofile = ''", ["parameters"]), (lines, [])]
        blocks.append(("ledger.close()", []))
        cells = [{"cell_type": "markdown", "id": "a-01", "metadata": {}, "source": prose}]
        for number, (source, tags) in enumerate(blocks, start=2):
            cell = {"cell_type": "code", "id": f"a-0{number}", "metadata": {"tags": tags}}
            cells.append({**cell, "source": source, "outputs": [], "execution_count": None})
        kernel = {"kernelspec": {"name": "python3", "language": "python", "display_name": "P"}}
        content = {"cells": cells, "metadata": kernel, "nbformat": 4, "nbformat_minor": 5}
        (self.root / "notebooks" / "01_curation.ipynb").write_text(json.dumps(content))

    def doit(self, *words, profile="smoke"):
        """Exit code and output of the task graph."""
        run = subprocess.run(
            [sys.executable, "-m", "doit", *(words or ["notebook:01_curation"])],
            cwd=self.root,
            env={**os.environ, "SALIB_PROFILE": profile},
            capture_output=True,
            text=True,
        )
        return run.returncode, run.stdout + run.stderr

    def is_due(self):
        """Whether the notebook would run now."""
        code, said = self.doit("list", "--all", "--status", "notebook:01_curation")
        assert code == 0, said
        return bool(re.search(r"^R +notebook:01_curation", said, re.MULTILINE))


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project whose notebook has run once."""
    project = Project(tmp_path_factory.mktemp("project"))
    project.write("2")
    code, said = project.doit()
    assert code == 0, said
    return project


def test_a_notebook_runs_with_the_profile_and_then_rests(project):
    ledger = json.loads((project.root / "results/smoke/ledger/01_curation.json").read_text())
    assert (ledger["profile"], ledger["seed"]) == ("smoke", 0)
    assert ledger["entries"]["c.n"]["value"] == 2
    assert not project.is_due()


def test_a_notebook_whose_folder_is_gone_runs_again(project):
    stamp = project.root / "runs/smoke/tiles/made_from.json"
    stamp.unlink()
    assert project.is_due()
    stamp.write_text("{}")
    assert not project.is_due()


def test_a_failing_notebook_shows_its_traceback_and_leaves_the_last_page(project):
    before = project.page.read_bytes()
    project.write("1 / 0")
    code, said = project.doit()
    assert code != 0
    assert "ZeroDivisionError" in said
    assert project.page.read_bytes() == before
    assert project.is_due()
    project.write("2")
    assert not project.is_due(), "the last good page is of this very notebook"


def test_prose_and_imported_modules_make_a_page_due_and_other_modules_do_not(project):
    (project.root / "salib" / "other.py").write_text("a = 1\n")
    assert not project.is_due()
    project.write("2", prose="other words")
    assert project.is_due()
    project.write("2")
    artifact = project.root / ARTIFACT
    before = artifact.read_text()
    artifact.write_text(f"{before}\n# The ledger imports this module.\n")
    assert project.is_due()
    artifact.write_text(before)
    assert not project.is_due()


def test_a_killed_build_leaves_the_last_page_and_runs_again(project):
    before = project.page.read_bytes()
    project.write("__import__('os').kill(__import__('os').getppid(), 9)")
    assert project.doit()[0] == -9
    assert project.page.read_bytes() == before
    project.write("3")
    assert project.doit()[0] == 0
    assert project.page.read_bytes() != before
    assert not project.is_due()


@pytest.mark.parametrize("name", ["huge", "../profiles/smoke", "", "."])
def test_an_unknown_profile_is_refused_with_the_known_ones(project, name):
    code, said = project.doit(profile=name)
    assert code != 0
    assert said == f"error: PROFILE must be one of smoke, got {name!r}\n"


@pytest.mark.parametrize(
    ("file", "content", "told"),
    [
        ("profiles/smoke.yml", "- a", "must hold parameters by name"),
        ("profiles/smoke.yml", "a: [", "parsing"),
        ("notebooks/01_curation.ipynb", "{}", "cells"),
        ("notebooks/01_curation.ipynb", "{", "error: 01_curation"),
        ("notebooks/01_curation.ipynb", '{"cells": []}', "must have one cell tagged parameters"),
    ],
)
def test_a_damaged_profile_or_notebook_is_told_without_a_traceback(project, file, content, told):
    path = project.root / file
    before = path.read_text()
    path.write_text(content)
    code, said = project.doit()
    path.write_text(before)
    assert code != 0
    assert told in said
    assert "Traceback" not in said


def test_a_notebook_that_forgets_its_ledger_is_told_without_a_traceback(project):
    cells = project.root / "notebooks" / "01_curation.ipynb"
    before = cells.read_text()
    (project.root / "results/smoke/ledger/01_curation.json").unlink()
    cells.write_text(before.replace("ledger.close()", "pass"))
    code, said = project.doit()
    cells.write_text(before)
    assert code != 0
    assert "must close its ledger" in said
    assert "Traceback" not in said
    assert project.doit()[0] == 0


@pytest.mark.parametrize("named", ["results/own/rows.csv", "results/own/{name}.csv"])
def test_a_table_that_a_notebook_names_makes_its_page_due(project, named):
    table = project.root / "results" / "own" / "rows.csv"
    table.parent.mkdir(exist_ok=True)
    table.write_text("a\n1\n")
    project.write(f"len([f'{named}' for name in ['rows']])")
    assert project.doit()[0] == 0
    assert not project.is_due()
    table.write_text("a\n2\n")
    assert project.is_due()
