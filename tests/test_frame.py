"""The frame: dependencies agree, imports point upstream, notebooks keep their contract."""

import ast
import hashlib
import itertools
import json
import re
import subprocess
import sys
import tomllib
from graphlib import TopologicalSorter
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parent.parent
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PROFILES = sorted((ROOT / "profiles").glob("*.yml"))

PACKAGES = ("earth", "exhibits", "salib")
MAY_IMPORT = {
    "salib.config": set(),
    "salib.bias": set(),
    "salib.attention": {"salib.bias"},
    "salib.model": {"salib.config", "salib.bias", "salib.attention", "salib.files"},
    "salib.losses": set(),
    "salib.files": set(),
    "salib.tiles": {"salib.config", "salib.files"},
    "salib.training": {f"salib.{room}" for room in ("config", "model", "losses", "tiles", "files")},
    "salib.rasters": {"salib.config", "salib.tiles", "salib.files"},
    "salib.curate": {"salib.config", "salib.tiles", "salib.files", "salib.rasters"},
    "salib.evaluate": {"salib.config", "salib.model", "salib.files", "salib.rasters"},
    "salib.mapping": {"salib.config", "salib.model", "salib.files", "salib.rasters"},
    "salib.cli": {"salib", "earth", "exhibits"},
    "salib.__main__": {"salib.cli"},
    "salib.__init__": {"salib.config", "salib.model", "salib.rasters"},
    "earth": {"salib.config", "salib.files"},
    "exhibits.experiments": {"salib", "earth", "exhibits"},
    "exhibits": {"salib"},
}
RASTER = {"affine", "geopandas", "httpx", "morecantile", "pmtiles", "pyproj", "pystac", "rasterio"}
RASTER |= {"pystac_client", "requests", "rio_cogeo", "shapely", "stac_geoparquet"}
RASTER_IMPORTERS = {"salib.curate", "salib.rasters", "salib.mapping", "earth", "exhibits"}
RASTER_IMPORTERS |= {"salib.tiles"}  # pmtiles
RASTER_IMPORTERS |= {"salib.files.download"}  # requests


def sources():
    return sorted(path for package in PACKAGES for path in (ROOT / package).rglob("*.py"))


def module_of(path):
    return ".".join(path.relative_to(ROOT).with_suffix("").parts)


def room_of(module):
    """The entry of the import table that a module falls under."""
    return next(room for room in MAY_IMPORT if within(module, {room}))


MODULES = {module_of(path): path for path in sources()}


def imports_of(path):
    """Dotted names that a file imports; `from a import b` counts as a.b."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path} must import salib by its full name"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def within(name, allowed):
    return any(f"{name}.".startswith(f"{prefix}.") for prefix in allowed)


def test_what_the_readme_points_to_exists():
    text = (ROOT / "README.md").read_text()
    targets = re.findall(r'(?:src|srcset)="([^"]+)"|\]\(([^)]+)\)', text)
    paths = [first or second for first, second in targets]
    assert paths
    assert [path for path in paths if "://" not in path and not (ROOT / path).is_file()] == []


def pinned():
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    return [Requirement(line) for line in lines if line and not line.startswith("#")]


def project():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def wanted():
    """Every requirement of the package and its extras, by canonical name."""
    groups = [project()["dependencies"], *project()["optional-dependencies"].values()]
    listed = [Requirement(line) for line in itertools.chain(*groups)]
    return {canonicalize_name(requirement.name): requirement for requirement in listed}


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_upstream(module):
    room = room_of(module)
    ours = {name for name in imports_of(MODULES[module]) if name.split(".")[0] in PACKAGES}
    assert {name for name in ours if not within(name, MAY_IMPORT[room] | {room})} == set()


def test_no_module_imports_itself_by_way_of_others():
    graph = {
        module: {
            home
            for name in imports_of(path)
            for home in (name, name.rpartition(".")[0])
            if home in MODULES and home != module
        }
        for module, path in MODULES.items()
    }
    assert set(TopologicalSorter(graph).static_order()) == MODULES.keys()


@pytest.mark.parametrize("module", MODULES)
def test_only_some_rooms_import_raster_and_catalog_packages(module):
    if not within(module, RASTER_IMPORTERS):
        assert {name.split(".")[0] for name in imports_of(MODULES[module])} & RASTER == set()


def test_every_foreign_import_is_a_declared_dependency():
    provided = metadata.packages_distributions()
    for path in sources():
        tops = {name.split(".")[0] for name in imports_of(path)} - sys.stdlib_module_names
        for top in tops - set(PACKAGES):
            names = {canonicalize_name(name) for name in provided.get(top, [top])}
            assert names & wanted().keys(), f"{path.name} imports {top}"


def test_the_package_imports_without_reading_packages_it_calls_optional():
    code = "import sys, salib, exhibits.ledger; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"matplotlib", "rasterio", "umap"} & set(run.stdout.split())


def test_the_lock_pins_each_dependency_once_and_exactly():
    names = [canonicalize_name(pin.name) for pin in pinned()]
    assert len(names) == len(set(names))
    for pin in pinned():
        assert re.fullmatch(r"==[^+*,]+", str(pin.specifier)), f"{pin} must be one exact version"
    assert {"geobench", "salib"} & set(names) == set()


def test_the_lock_meets_what_the_package_and_geobench_ask_for():
    versions = {canonicalize_name(p.name): str(p.specifier)[2:] for p in pinned()}
    asked = list(wanted().values())
    asked += [Requirement(line) for line in metadata.requires("geobench") if "extra" not in line]
    for requirement in asked:
        name = canonicalize_name(requirement.name)
        if name != "geobench":
            assert requirement.specifier.contains(versions[name]), (
                f"{requirement}: {versions[name]}"
            )


def test_the_workflow_tries_both_ends_of_the_range_of_torch_and_the_locked_one():
    jobs = yaml.safe_load((ROOT / ".github/workflows/book.yml").read_text())["jobs"]
    tried = jobs["versions"]["strategy"]["matrix"]["torch"]
    minors = [int(version.split(".")[1]) for version in tried]
    clauses = wanted()["torch"].specifier
    oldest, beyond = sorted(int(clause.version.split(".")[1]) for clause in clauses)
    assert (min(minors), max(minors)) == (oldest, beyond - 1)
    assert {str(pin.specifier)[2:] for pin in pinned() if pin.name == "torch"} <= set(tried)


def test_conda_installs_the_same_lock_the_same_geobench_and_this_package():
    listed = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"]
    pip = next(item["pip"] for item in listed if isinstance(item, dict))
    assert "-r requirements.lock" in pip
    assert "-e ." in pip
    assert str(wanted()["geobench"]).split(";")[0].strip() in pip
    assert "pip" in listed
    python = next(Requirement(f"python=={item[7:]}") for item in listed if "python=" in str(item))
    oldest = Requirement(f"python{project()['requires-python']}").specifier
    assert oldest.contains(str(python.specifier)[2:])


def test_make_installs_the_geobench_that_the_package_names():
    assert (
        f" {str(wanted()['geobench']).split(';')[0].strip()}\n" in (ROOT / "Makefile").read_text()
    )


def test_vendored_files_are_those_listed_with_their_sha256_and_licence():
    vendor = ROOT / "book" / "_assets" / "vendor"
    listed = json.loads((vendor / "versions.json").read_text())
    sums = {name: sum_ for package in listed.values() for name, sum_ in package["files"].items()}
    present = {str(p.relative_to(vendor)): p for p in vendor.rglob("*") if p.is_file()}
    present.pop("versions.json")
    assert {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in present.items()} == sums
    assert all(f"{package}/LICENSE" in sums for package in listed)


def code_cells(notebook):
    cells = json.loads(notebook.read_text())["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def parameters(notebook):
    """Names and defaults in the cell tagged parameters, which must be the only one."""
    (cell,) = [c for c in code_cells(notebook) if "parameters" in c["metadata"].get("tags", [])]
    assert "remove-cell" in cell["metadata"]["tags"], "the page shows what was injected instead"
    body = ast.parse("".join(cell["source"])).body
    assert all(isinstance(node, ast.Assign) for node in body)
    return {node.targets[0].id: ast.literal_eval(node.value) for node in body}


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_is_stripped_and_its_cell_ids_are_stable(notebook):
    content = json.loads(notebook.read_text())
    numbers = [cell["id"].removeprefix(f"{notebook.stem}-") for cell in content["cells"]]
    assert all(re.fullmatch(r"\d\d[a-z]?", number) for number in numbers)
    assert len(numbers) == len(set(numbers))
    assert all(not c["outputs"] and c["execution_count"] is None for c in code_cells(notebook))
    assert content["metadata"]["kernelspec"]["name"] == "python3"
    assert content["cells"][0]["cell_type"] == "markdown"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_calls_and_the_library_does(notebook):
    sources = ["".join(cell["source"]) for cell in code_cells(notebook)]
    code = "\n".join(sources)
    assert not re.search(r"\bnn\.|\bpip\b|filterwarnings|/home|/tmp|^[%!]", code, re.MULTILINE)
    assert sum(bool(line.strip()) for line in code.splitlines()) <= 60
    tree = ast.parse(code)
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    functions = [node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
    assert all(node.end_lineno - node.lineno < 10 for node in functions)
    first = {type(node) for node in ast.parse(sources[0]).body}
    assert first <= {ast.Import, ast.ImportFrom}, "the first code cell imports"


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_alone_runs_as_the_smoke_profile_has_it(notebook):
    smoke = yaml.safe_load((ROOT / "profiles" / "smoke.yml").read_text())
    for name, default in parameters(notebook).items():
        assert smoke[name] == default, f"{notebook.stem} has {name} = {default!r}"


@pytest.mark.parametrize("profile", PROFILES, ids=lambda path: path.stem)
def test_each_key_of_a_profile_is_a_parameter_of_some_notebook(profile):
    keys = yaml.safe_load(profile.read_text())
    declared = set().union(*(parameters(notebook) for notebook in NOTEBOOKS))
    assert keys.keys() == declared
    assert keys["profile"] == profile.stem


def test_every_test_that_the_reading_page_names_exists():
    named = re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", (ROOT / "book/reading.md").read_text())
    assert named
    for file, function in named:
        source = (ROOT / file).read_text()
        assert not function or f"def {function}(" in source, f"{file} must define {function}"


def test_the_reading_page_has_a_section_for_each_row_that_the_library_cites():
    page = (ROOT / "book/reading.md").read_text()
    cited = {row for path in sources() for row in re.findall(r"\bD(\d{1,2})\b", path.read_text())}
    assert {row for row in cited if f"(d{row})=" not in page} == set()
