"""Single bits of every file that we read are flipped: refused in one line, or the same result.

`SALIB_FLIPS=200 pytest tests/test_flips.py` flips so many in each; the suite flips 40.
"""

import json
import os
import sys
import warnings
import zlib
from collections import Counter
from functools import partial
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pytest
import rasterio
import torch
from conftest import ground, write_samples
from embed_models import small_model
from labelled import write_layout
from pyarrow import feather
from rasterio.transform import from_origin
from rasterio.windows import Window
from safetensors.numpy import save_file
from test_evaluate_tasks import write_zip
from test_published import in_parts, random_weights
from train_runs import stopped

from salib import load_model
from salib.curate.shards import _SCHEMA, read_rows, read_tiles
from salib.evaluate.tasks.class_folders import CHIP_ZIPS
from salib.evaluate.tasks.task import chip_task, geobench_task, iter_split
from salib.files.artifact import MADE_FROM, is_kept, made_from
from salib.files.checksum import CHECKSUM, write_checksum
from salib.files.tables import write_table
from salib.mapping import embed_scene, open_scene, similar
from salib.mapping.geotiff import VECTORS, WindowFiles
from salib.mapping.images import embed_images
from salib.model import load_croma
from salib.tiles.archive import Archive, write_archive
from salib.tiles.codec import encode
from salib.tiles.grid import TileId, tile_gsd_m
from salib.training.checkpoint import find_state
from salib.training.data import Samples

FLIPS = int(os.environ.get("SALIB_FLIPS", 40))
PLACE = from_origin(431_000, 5_400_000, 10, 10)
PLACES = [TileId(14, x, y) for x in (0, 1) for y in (6588, 6589, 6590)]


class Case(NamedTuple):
    """A file, how it is read, and whether it holds a digest that is checked."""

    path: Path
    read: object
    has_checksum: bool = True


def tensors(model):
    return {name: value.numpy().tobytes() for name, value in model.state_dict().items()}


def curated(folder, encoding="png"):
    write_samples(
        folder, PLACES, lambda _, t: ground(t.x, t.y, t.z), [tile_gsd_m(tile) for tile in PLACES]
    )
    rows = []
    for name in ("radar", "lores", "hires"):
        plain = Archive(folder / f"{name}.pmtiles")
        tiles = [(tile, encode(plain.get(*tile), encoding)) for tile in plain.tiles()]
        write_archive(plain.path, tiles, metadata={"name": name, "attribution": "of nobody"})
        rows += [{"sensor": name, **t._asdict(), "crc32": zlib.crc32(data)} for t, data in tiles]
    write_table(folder / "tiles.parquet", pd.DataFrame(rows))
    write_table(folder / "index.parquet", pd.read_parquet(folder / "index.parquet"))
    return folder


def read_archive(path):
    archive = Archive(path)
    pixels = {tile: archive.get(*tile).tobytes() for tile in archive.tiles()}
    return pixels, archive.metadata


def read_index(folder):
    samples = Samples(folder)
    return samples.rows.to_json(), samples.sensors, samples.image(0, "lores").tobytes()


def read_task(task):
    return [
        (image.tobytes(), np.asarray(label).tobytes()) for image, label in iter_split(task, "train")
    ]


def read_window(files, path):
    return files.what_ran(), files.read(Window(0, 0, 3, 2)).tobytes()


def cases_of_models(folder):
    model = small_model(folder / "model", 3)
    for name in ("model.safetensors", "config.json"):
        yield name, Case(model / name, lambda: tensors(load_model(model)))
    path = folder / "croma.pt"
    torch.save(in_parts(random_weights(32)), path)
    yield "croma.pt", Case(path, lambda: tensors(load_croma(path)))


def cases_of_tiles(folder):
    png, webp = (curated(folder / kind, kind) for kind in ("png", "webp"))
    for each in (png, webp):
        yield (
            f"{each.name} archive",
            Case(each / "lores.pmtiles", lambda each=each: read_archive(each / "lores.pmtiles")),
        )
    yield "tiles.parquet", Case(png / "tiles.parquet", lambda: read_archive(png / "lores.pmtiles"))
    yield "index.parquet", Case(png / "index.parquet", lambda: read_index(png))
    alone = folder / "alone.pmtiles"
    alone.write_bytes((png / "lores.pmtiles").read_bytes())
    yield "archive of others", Case(alone, lambda: read_archive(alone), False)


def cases_of_work(folder):
    tile = TileId(14, 3, 5)
    row = dict.fromkeys(_SCHEMA.names) | tile._asdict() | {"sensor": "radar", "valid_frac": 0.7}
    row |= {"data": bytes(range(256)) * 9, "attribution": "of nobody"}
    block = folder / "block.arrow"
    feather.write_feather(
        pa.Table.from_pylist([row], _SCHEMA), str(block), compression="uncompressed"
    )
    write_checksum(block)

    def read_block():
        return read_rows([block]).to_pylist(), list(read_tiles([block], "radar", 14))

    yield "block of tiles", Case(block, read_block)
    files = WindowFiles(folder=folder, rows=[range(2)], cols=[range(3)], dim=5)
    [(path, _, _)] = files
    path.parent.mkdir()
    vectors = np.random.default_rng(0).normal(size=(2, 3, 5)).astype(np.float32)
    save_file({VECTORS: vectors}, path, {"attention": "sdpa", "instructions": "avx2", **CHECKSUM})
    write_checksum(path)
    yield "window of a map", Case(path, lambda: read_window(files, path))
    scene, place = folder / "scene.tif", {"crs": "EPSG:32633", "transform": PLACE}
    levels = np.random.default_rng(0).integers(0, 256, (3, 24, 40), np.uint8)
    with rasterio.open(scene, "w", height=24, width=40, count=3, dtype="uint8", **place) as file:
        file.write(levels)
    model = small_model(folder / "model", 3)
    of_scene = embed_scene(open_scene(scene, "lores"), model, folder / "map.tif", window=4)
    query = np.arange(load_model(model).config.dim) - 3.5
    yield "map", Case(of_scene, lambda: similar(of_scene, query)[0].tobytes())


def read_geobench(root):
    return read_task(geobench_task(root, procedural=False))


def cases_of_tasks(folder):
    for name in ("m-eurosat", "m-nz-cattle"):
        root = write_layout(folder, name)
        for file in (
            next(root.glob("a*.hdf5")),
            root / "task_specs.pkl",
            root / "default_partition.json",
        ):
            yield f"{name} {file.name}", Case(file, partial(read_geobench, root), False)
    path = folder / CHIP_ZIPS["ucmerced"].file
    write_zip(path, {"ant": 61, "bee": 62})
    yield "zip of chips", Case(path, lambda: read_task(chip_task(path, source="ucmerced")), False)


GROUPS = {
    "models": cases_of_models,
    "tiles": cases_of_tiles,
    "work": cases_of_work,
    "tasks": cases_of_tasks,
}


def outcome(case, base):
    """What reading a damaged file comes to: refused, same or different; else it raises."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of libraries, about values that are read all the same
        try:
            return "same" if case.read() == base else "different"
        except (ValueError, OSError) as error:
            return "refused" if "\n" not in str(error) else f"several lines: {error}"


@pytest.mark.parametrize("group", GROUPS)
def test_a_flipped_bit_is_refused_in_a_line_or_changes_nothing(tmp_path, group, capfd):
    for name, case in GROUPS[group](tmp_path):
        whole, base = case.path.read_bytes(), case.read()
        rng, found = np.random.default_rng([7, *name.encode()]), Counter()
        for bit in rng.integers(8 * len(whole), size=FLIPS).tolist():
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            case.path.write_bytes(data)
            result = outcome(case, base)
            assert result in ("refused", "same", *(["different"] * (not case.has_checksum))), (
                name,
                bit,
            )
            found[result] += 1
        case.path.write_bytes(whole)
        assert case.read() == base
        with capfd.disabled():
            if FLIPS > 40:
                sys.stdout.write(f"\n{name}: {dict(found)}")
        for cut in (0, 1, len(whole) // 2, len(whole) - 1):
            case.path.write_bytes(whole[:cut])
            assert outcome(case, base) == "refused", f"{name}: {cut} of {len(whole)} bytes"
        case.path.write_bytes(whole)


@pytest.mark.parametrize("text", ["null", "[]", "3", '{"files": [1]}', "[" * 200_000, "", "{"])
def test_a_stamp_that_is_none_says_nothing(tmp_path, text):
    (tmp_path / MADE_FROM).write_text(text)
    assert made_from(tmp_path) == {}
    assert not is_kept(tmp_path, {"seed": 1})


@pytest.mark.parametrize("stored", [[1, 2], None, 3.0, {"key": "{"}, {}])
def test_a_state_of_another_program_is_refused_in_a_line(tmp_path, stored):
    torch.save(stored, tmp_path / "state.pt")
    with pytest.raises(
        ValueError, match=r"state\.pt must be a checkpoint, got another file .*: give"
    ):
        find_state(tmp_path, {}, overwrite=False)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_vectors_that_are_not_finite_are_not_written(tmp_path, monkeypatch, value):
    cv2.imwrite(str(tmp_path / "a.png"), np.zeros((16, 16, 3), np.uint8))
    vectors = torch.tensor([[1.0, value]])
    monkeypatch.setattr("salib.model.ScaleAlibi.embed", lambda *_, **__: vectors)
    files = {"lores": [tmp_path / "a.png"]}
    with pytest.raises(ValueError, match="vectors must be finite"):
        embed_images(
            files, small_model(tmp_path / "m", 1), tmp_path / "o.parquet", gsd_m={"lores": 4}
        )
    assert not (tmp_path / "o.parquet").exists()


@pytest.mark.parametrize("value", [float("inf"), 1e30])
def test_a_map_of_infinite_vectors_is_refused_in_search(tmp_path, value):
    profile = {"driver": "GTiff", "count": 2, "height": 3, "width": 5, "dtype": "float32"}
    place = {"crs": "EPSG:32633", "transform": PLACE}
    vectors = np.ones((2, 3, 5), np.float32)
    vectors[1, 2, 3] = value
    with rasterio.open(tmp_path / "m.tif", "w", **profile, **place, nodata=np.nan) as file:
        file.write(vectors)
    with (
        pytest.raises(ValueError, match=r"vectors of .*m\.tif must be finite"),
        np.errstate(over="ignore"),
    ):
        similar(tmp_path / "m.tif", np.ones(2))


def test_a_flipped_bit_of_an_unfinished_run_is_refused_or_changes_nothing(
    tiles, tmp_path, monkeypatch
):
    stopped(tiles, tmp_path / "model", monkeypatch, at=2)
    path = tmp_path / ".model.unfinished" / "state.pt"
    key = json.loads(torch.load(path, weights_only=True)["key"])

    def read():
        state = find_state(path.parent, key, overwrite=False)
        flat = {**state["model"], **(state["best"] or {})}
        for number, moments in state["optimizer"]["state"].items():
            flat |= {f"{number}{name}": value for name, value in moments.items()}
        return {name: value.numpy().tobytes() for name, value in flat.items()}, state["rows"]

    case, whole = Case(path, read), path.read_bytes()
    base = read()
    for bit in np.random.default_rng(11).integers(8 * len(whole), size=FLIPS).tolist():
        data = bytearray(whole)
        data[bit // 8] ^= 1 << bit % 8
        path.write_bytes(data)
        assert outcome(case, base) in ("refused", "same"), f"bit {bit} is not noticed"
