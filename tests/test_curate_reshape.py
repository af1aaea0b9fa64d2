"""Merging, lower zooms, WebDataset shards."""

import json
import tarfile
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from salib.cli.app import app
from salib.tiles.archive import Archive, write_archive
from salib.tiles.codec import encode
from salib.tiles.grid import TileId
from salib.tiles.reshape import downsample, export_webdataset, merge

SIDE = 16


def picture(seed, bands=4):
    return np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE, bands), dtype=np.uint8)


def archive(path, pictures, encoding="png", **metadata):
    tiles = ((tile, encode(image, encoding)) for tile, image in pictures.items())
    return write_archive(path, tiles, metadata={"attribution": "a", **metadata})


def test_a_merged_archive_holds_the_bytes_of_its_parts(tmp_path):
    east = {TileId(9, 300 + x, 200): picture(x) for x in range(5)}
    west = {TileId(9, 297 + x, 200): picture(x - 3) for x in range(3, 6)}
    west |= {TileId(8, 10, 11): picture(90)}
    first = archive(tmp_path / "east.pmtiles", east, scenes=["s1", "s2"])
    second = archive(tmp_path / "west.pmtiles", west, scenes=["s2", "s3"], procedural=True)
    whole = Archive(merge([first, second], tmp_path / "whole.pmtiles"))
    assert set(whole.tiles()) == set(east) | set(west)
    for tile, image in {**east, **west}.items():
        np.testing.assert_array_equal(whole.get(*tile), image)
    assert whole.metadata["scenes"] == ["s1", "s2", "s3"]
    assert whole.metadata["procedural"]
    assert whole.metadata["attribution"] == "a"
    again = merge([first, second], tmp_path / "again.pmtiles")
    assert again.read_bytes() == whole.path.read_bytes()


def test_archives_that_differ_in_a_tile_are_not_merged(tmp_path):
    first, second = (
        archive(tmp_path / f"{seed}.pmtiles", {TileId(9, 300, 200): picture(seed)})
        for seed in (1, 2)
    )
    with pytest.raises(ValueError, match=r"agree where they overlap: tile 9/300/200 of .*2\.pm"):
        merge([first, second], tmp_path / "whole.pmtiles")
    assert not (tmp_path / "whole.pmtiles").exists()
    with pytest.raises(ValueError, match="at least one"):
        merge([], tmp_path / "whole.pmtiles")


def test_a_lower_zoom_is_the_alpha_weighted_mean_of_four(tmp_path):
    parent = TileId(8, 77, 99)
    children = dict(zip(parent.children(), map(picture, range(4)), strict=True))
    del children[parent.children()[1]]
    out = downsample(
        archive(tmp_path / "a.pmtiles", children), tmp_path / "new" / "b.pmtiles", min_zoom=7
    )
    coarse = Archive(out)
    assert coarse.zooms == (7, 8, 9)
    whole = np.zeros((2 * SIDE, 2 * SIDE, 4))
    for tile, image in children.items():
        top, left = (tile.y - 2 * parent.y) * SIDE, (tile.x - 2 * parent.x) * SIDE
        whole[top : top + SIDE, left : left + SIDE] = image
    found = coarse.get(*parent)
    for row in range(SIDE):
        for col in range(SIDE):
            four = whole[2 * row : 2 * row + 2, 2 * col : 2 * col + 2].reshape(4, 4)
            alpha = four[:, 3].sum()
            assert abs(found[row, col, 3] - alpha / 4) <= 0.51
            if alpha >= 40:
                mean = (four[:, :3] * four[:, 3:]).sum(0) / alpha
                assert np.abs(found[row, col, :3] - mean).max() <= 0.51
    assert (found[: SIDE // 2, SIDE // 2 :, 3] == 0).all(), "the absent child is transparent"
    assert coarse.read(*parent.children()[0]) == Archive(tmp_path / "a.pmtiles").read(
        *parent.children()[0]
    )


def test_lower_zooms_keep_the_encoding_and_leave_no_other_file(tmp_path):
    tiles = {TileId(3, 2, 1): picture(1, 3)}
    path = archive(tmp_path / "a.pmtiles", tiles, "webp")
    coarse = Archive(downsample(path, tmp_path / "b.pmtiles", min_zoom=0))
    assert coarse.zooms == (0, 1, 2, 3)
    assert {coarse.read(*tile)[8:12] for tile in coarse.tiles()} == {b"WEBP"}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.pmtiles", "b.pmtiles"]
    for min_zoom in (-1, 3):
        with pytest.raises(ValueError, match=f"between 0 and 2, got {min_zoom}"):
            downsample(path, tmp_path / "c.pmtiles", min_zoom=min_zoom)


def test_shards_hold_each_joint_sample_whole_and_are_the_same_each_time(tiles, tmp_path):
    out = export_webdataset(tiles, tmp_path / "shards", samples_a_shard=3)
    index = pd.read_parquet(Path(tiles) / "index.parquet")
    archives = {name: Archive(Path(tiles) / f"{name}.pmtiles") for name in ("radar", "hires")}
    seen = {}
    for path in sorted(out.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [(m.name, tar.extractfile(m).read()) for m in tar.getmembers()]
        samples = {}
        for name, data in members:
            key, part = name.split(".", 1)
            samples.setdefault(key, {})[part] = data
        assert 1 <= len(samples) <= 3
        assert {json.loads(s["json"])["split"] for s in samples.values()} == {path.name[:5]}
        seen |= samples
    assert len(seen) == len(index)
    for row in index.itertuples():
        sample = seen[f"{row.z}_{row.x}_{row.y}"]
        place = TileId(row.z, row.x, row.y)
        assert set(sample) == {"json", "radar.png", "lores.png", "hires.png"} | {
            f"hires_{corner}.png" for corner in ("nw", "ne", "sw", "se")
        }
        assert sample["radar.png"] == archives["radar"].read(*place)
        south_east = TileId(row.z + 1, 2 * row.x + 1, 2 * row.y + 1)
        assert sample["hires_se.png"] == archives["hires"].read(*south_east)
        assert json.loads(sample["json"])["gsd_m"] == pytest.approx(row.gsd_m)
    again = export_webdataset(tiles, tmp_path / "again", samples_a_shard=3)
    for path in out.glob("*.tar"):
        assert path.read_bytes() == (again / path.name).read_bytes()


def test_shards_of_no_tiles_are_refused(tmp_path, tiles):
    with pytest.raises(ValueError, match=r"must hold index\.parquet"):
        export_webdataset(tmp_path, tmp_path / "out")
    with pytest.raises(ValueError, match="samples_a_shard must be at least 1"):
        export_webdataset(tiles, tmp_path / "out", samples_a_shard=0)
    assert not (tmp_path / "out").exists()


def test_the_command_line_tells_by_its_exit_whether_an_archive_is_sound(tmp_path):
    good = archive(tmp_path / "good.pmtiles", {TileId(3, 2, 1): picture(1)})
    found = CliRunner().invoke(app, ["tiles", "verify", str(good)])
    assert (found.exit_code, found.output) == (0, "0 problems in 1 archives\n")
    bad = archive(tmp_path / "bad.pmtiles", {TileId(3, 2, 1): np.zeros((9, 9, 3), np.uint8)})
    found = CliRunner().invoke(app, ["tiles", "verify", str(good), str(bad)])
    assert found.exit_code == 1
    assert f"{bad} 3/2/1: placeholder: every pixel is [0, 0, 0]" in found.output
    out = tmp_path / "whole.pmtiles"
    assert CliRunner().invoke(app, ["tiles", "merge", str(good), "--out", str(out)]).exit_code == 0
    assert len(Archive(out)) == 1
