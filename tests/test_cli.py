"""The command line."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import rasterio
import torch
from labelled import write_dark_and_light
from PIL import Image
from rasterio.transform import from_origin
from typer.testing import CliRunner

from earth import write_geobench
from salib import build_model, load_model, preset
from salib.cli.app import app, main
from salib.mapping.images import open_file
from salib.model import save_model

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    config = replace(
        preset("tiny"), dim=24, depth=2, heads=3, patch_px=4, decoder_dim=16, decoder_heads=2
    )
    return save_model(build_model(config, 0), tmp_path_factory.mktemp("model") / "scale_alibi")


@pytest.fixture
def picture(tmp_path):
    levels = np.random.default_rng(0).integers(0, 256, (12, 20, 3), dtype=np.uint8)
    cv2.imwrite(str(tmp_path / "picture.png"), levels[..., ::-1])
    return tmp_path / "picture.png", levels


def test_embed_writes_what_the_library_gives(model, picture, tmp_path):
    path, levels = picture
    out = tmp_path / "out.parquet"
    arguments = ["embed", str(path), "--model", str(model), "--gsd-m", "5", "--out", str(out)]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    images = torch.from_numpy(levels.transpose(2, 0, 1).copy())[None]
    expected = load_model(model).embed(images, "lores", 5.0)[0]
    row = pd.read_parquet(out).iloc[0]
    torch.testing.assert_close(torch.tensor(row["embedding"]).float(), expected)
    assert row["sensor"] == "lores"


@pytest.fixture
def scene(tmp_path):
    levels = np.random.default_rng(1).integers(0, 256, (3, 12, 20), dtype=np.uint8)
    place = {"crs": "EPSG:32633", "transform": from_origin(431_000, 5_400_000, 5, 5)}
    with rasterio.open(
        tmp_path / "scene.tif", "w", **place, count=3, height=12, width=20, dtype="uint8"
    ) as file:
        file.write(levels)
    return tmp_path / "scene.tif", torch.from_numpy(levels)[None]


def test_embed_writes_a_map_of_a_scene_or_a_row_by_the_ending_of_out(model, scene, tmp_path):
    path, images = scene
    common = ["embed", str(path), "--model", str(model), "--out"]
    more = ["--bands", "2,3,1", "--precision", "float32", "--window", "8", "--procedural"]
    assert CliRunner().invoke(app, [*common, str(tmp_path / "map.tif"), *more]).exit_code == 0
    with rasterio.open(tmp_path / "map.tif") as file:
        found, tags, shape = file.read(), file.tags(), file.shape
    assert (shape, tags["procedural"], tags["bands"]) == ((3, 5), "true", "2,3,1")
    gsd_m = float(tags["gsd_m"])
    assert gsd_m == pytest.approx(5, rel=1e-3)
    torch.testing.assert_close(
        torch.from_numpy(found).flatten(1).T,
        load_model(model).embed(images[:, [1, 2, 0]], "lores", gsd_m, tokens=True)[0],
        rtol=1e-4,
        atol=1e-4,
    )
    assert CliRunner().invoke(app, [*common, str(tmp_path / "row.parquet")]).exit_code == 0
    row = pd.read_parquet(tmp_path / "row.parquet").iloc[0]
    assert row["gsd_m"] == pytest.approx(gsd_m)
    expected = load_model(model).embed(images, "lores", row["gsd_m"])[0]
    torch.testing.assert_close(torch.tensor(row["embedding"]).float(), expected)


def test_radar_pictures_give_vv_from_green_and_vh_from_blue(picture):
    path, levels = picture
    radar, _ = open_file(path, "radar", gsd_m=1).read(1)
    assert (radar[0] == levels[..., 1]).all()
    assert (radar[1] == levels[..., 2]).all()


@pytest.mark.parametrize("mode", ["L", "LA", "I;16"])
def test_pictures_of_other_bands_are_refused(tmp_path, mode):
    Image.new(mode, (20, 12)).save(tmp_path / "p.png")
    with pytest.raises(ValueError, match="must be 8-bit RGB"):
        open_file(tmp_path / "p.png", "lores", gsd_m=1).read(1)


def test_a_jpeg_that_was_cut_is_refused(picture, tmp_path):
    whole, cut = tmp_path / "whole.jpg", tmp_path / "cut.jpg"
    Image.fromarray(picture[1][..., :3]).save(whole)
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    assert open_file(whole, "lores", gsd_m=1).read(1)[0].shape[0] == 3
    with pytest.raises(ValueError, match="must be a whole image"):
        open_file(cut, "lores", gsd_m=1).read(1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["embed", "none.png", "--model", "M", "--gsd-m", "5", "--out", "o.parquet"], "image file"),
        (
            ["embed", "P", "--model", "M", "--gsd-m", "5", "--sensor", "x", "--out", "o.parquet"],
            "sensor must be one of",
        ),
        (["embed", "P", "--model", "M", "--gsd-m", "0", "--out", "o.parquet"], "gsd_m must be"),
        (["embed", "P", "--model", "none", "--gsd-m", "5", "--out", "o.parquet"], "model folder"),
        (["embed", "P", "--model", "M", "--out", "o.parquet"], "gsd_m must be given"),
        (["embed", "P", "--model", "M", "--out", "o.tif"], "write to a .parquet"),
        (["embed", "P", "P", "--model", "M", "--out", "o.tif"], "must be one scene for a map"),
        (["embed", "P", "--model", "M", "--out", "o.zarr"], "out must end in .parquet, for"),
        (["embed", "P", "--model", "M", "--out", "o.tif", "--bands", "r,g,b"], "bands must be num"),
        (
            ["embed", "P", "--model", "M", "--out", "o.parquet", "--dtype", "int8"],
            "out must end in .tif for dtype",
        ),
        (["curate", "none.json", "--zoom", "14", "--out", "tiles"], "none.json"),
        (["curate", "none.json", "--out", "tiles"], "zoom must be given, got none"),
        (["curate", "--zoom", "0", "--out", "tiles"], "between 8 and 20, got 0"),
        (
            ["fetch", "eurosat", "--exclude", "geobench", "--out", "data"],
            "--exclude and --valid-share must come with tiles only, got eurosat",
        ),
        (
            ["curate", "--zoom", "14", "--aoi", "a", *["--bbox", "1", "2", "3", "4", "--out", "t"]],
            "area must be one of --aoi and --bbox, got both",
        ),
        (["fetch", "smal", "--out", "tiles"], "name must be one of full, small, micro, geobench"),
        (["fetch", "small"], "--out must be given for small"),
        (["fetch", "small", "m-eurosat", "--out", "tiles"], "must come with geobench only"),
        (["fetch", "small", "--offline", "--out", "tiles"], "`salib fetch small --out tiles` with"),
        (["fetch", "geobench", "--out", "data"], "tasks must be of m-bigearthnet"),
        (["fetch", "geobench", "m-euronet", "--out", "data"], "or all, got ['m-euronet']"),
        (
            ["fetch", "geobench", "all", "--offline", "--out", "data"],
            "in data must be there to work offline",
        ),
        (["fetch", "eurosat", "--offline", "--out", "data"], "data/EuroSAT_RGB.zip must be there"),
        (["pretrain", "none", "--preset", "tiny", "--out", "model"], "none"),
        (["pretrain", "none", "--precision", "fp8", "--out", "model"], "precision must be"),
        (
            ["curate", "none.json", "--zoom", "14", "--sensors", "radar", "--out", "tiles"],
            "sensors must be two or more, radar first",
        ),
        (
            ["pretrain", "none", "--sensors", "radar,modis", "--out", "model"],
            "sensors must be of radar, lores, hires, s2, got 'modis'",
        ),
    ],
)
def test_a_wrong_input_prints_one_line_and_exits_with_2(
    arguments, message, model, picture, tmp_path, monkeypatch, capsys
):
    places = {"M": str(model), "P": str(picture[0])}
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["salib", *(places.get(word, word) for word in arguments)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert stopped.value.code == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1
    assert message in lines[0]
    assert {path.name for path in tmp_path.iterdir()} == {"picture.png"}


def test_the_twelve_bands_pass_from_the_world_to_tiles_and_to_the_model(tmp_path, monkeypatch):
    world, tiles, models = tmp_path / "world", tmp_path / "tiles", []
    made = CliRunner().invoke(app, ["world", str(world), "--tiles", "1", "--spectral"])
    assert made.exit_code == 0, made.output
    arguments = ["curate", str(world / "catalog.json"), "--zoom", "14", "--out", str(tiles)]
    cut = CliRunner().invoke(app, [*arguments, "--sensors", "radar, s2"])
    assert cut.exit_code == 0, cut.output
    assert {path.stem for path in tiles.glob("*.pmtiles")} == {"radar", "s2"}
    monkeypatch.setattr(
        "salib.training.train.pretrain", lambda model, *_, **__: models.append(model)
    )
    for more in ([], ["--sensors", "radar,s2"]):
        arguments = ["pretrain", str(tiles), "--preset", "tiny", "--out", "model"]
        assert CliRunner().invoke(app, [*arguments, *more]).exit_code == 0
    assert [model.sensors for model in models] == [("radar", "lores", "hires"), ("radar", "s2")]


def test_units_of_curation_are_stated_by_sensor(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr("salib.curate.run.curate", lambda *_, rules, **__: asked.append(rules))
    arguments = ["curate", "x.json", "--zoom", "14", "--out", str(tmp_path)]
    for sensors in ("radar,lores", "radar,s2"):
        more = ["--sensors", sensors, "--unit", "radar=dB"]
        assert CliRunner().invoke(app, [*arguments, *more]).exit_code == 0
    assert [rules.units for rules in asked] == [{"radar": "db"}] * 2
    wrong = CliRunner().invoke(app, [*arguments, "--unit", "db"])
    assert "unit must be given once for one of radar, lores, hires" in str(wrong.exception)


def test_help_does_not_wait_for_torch():
    code = "import sys, salib.cli.app; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_evaluate_scores_a_folder_of_images(model, tmp_path, monkeypatch):
    write_dark_and_light(tmp_path / "images")
    out = tmp_path / "rows.parquet"
    arguments = ["evaluate", "--model", str(model), "--images", str(tmp_path / "images")]
    arguments += ["--image-px", "8", "--out", str(out), "--paper", str(ROOT / "paper")]
    for name in ("GEO_BENCH_DIR", "SALIB_DATA_DIR"):
        monkeypatch.delenv(name, raising=False)
    refused = CliRunner().invoke(app, arguments)
    assert "gsd_m must say" in str(refused.exception)
    for option, value in {"unit": "DN", "offset-dn": 0, "level-255": -1, "bands": "1,2"}.items():
        wrong = CliRunner().invoke(app, [*arguments, "--gsd-m", "2", f"--{option}", str(value)])
        said = option.replace("-", "_")
        assert f"{said} must" in str(wrong.exception) or "--bands 1,2" in str(wrong.exception)
    found = CliRunner().invoke(app, [*arguments, "--gsd-m", "2"])
    assert found.exit_code == 0, found.output
    rows = pd.read_parquet(out)
    assert set(rows["source"]) == {"folder"}
    knn = rows[(rows["probe"] == "knn") & (rows["model"] == "image statistics")]
    assert knn["value"].tolist() == [1.0]
    assert f"{len(rows)} rows in {out}" in found.output
    assert "images: accuracy in percent" in found.output
    assert re.search(r"^image statistics .*100\.0 \[", found.output, re.MULTILINE)
    assert "paper SA-high" not in found.output


def test_evaluate_prints_table_2_for_its_tasks(model, tmp_path, monkeypatch):
    sizes = {"train": 20, "valid": 3, "test": 4, "processes": 1}
    folder = write_geobench(tmp_path / "g", seed=3, tasks=("m-brick-kiln",), **sizes)
    monkeypatch.chdir(ROOT)
    arguments = ["evaluate", "--model", str(model), "--geobench", str(folder), "--procedural"]
    arguments += ["--tasks", "m-brick-kiln", "--image-px", "8", "--out", str(tmp_path / "rows.csv")]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code == 0, found.output
    assert "m-brick-kiln: accuracy in percent" in found.output
    assert "paper SA-high" in found.output
    assert "improvement: not run" in found.output
    wrong = CliRunner().invoke(app, [*arguments, "--against", "Croma"])
    assert "against must be one of SA-" in str(wrong.exception)
