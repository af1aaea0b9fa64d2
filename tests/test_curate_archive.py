"""PMTiles archives: round trip, agreement with the reference reader, damage, processes."""

import hashlib
import io
import multiprocessing
import pickle

import cv2
import numpy as np
import pytest
from PIL import Image
from pmtiles.reader import MmapSource, Reader, all_tiles
from pmtiles.tile import Compression, TileType
from pmtiles.writer import Writer
from typer.testing import CliRunner

from salib.cli.app import app
from salib.tiles.archive import Archive, write_archive
from salib.tiles.checks import is_placeholder, verify
from salib.tiles.codec import ENCODINGS, decode, encode, image_format
from salib.tiles.grid import TileId


def as_png(image):
    return encode(image, "png")


META = {"attribution": "Procedural", "procedural": True}


def picture(seed, bands=4):
    return np.random.default_rng(seed).integers(0, 256, (256, 256, bands), dtype=np.uint8)


def with_pillow(image, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, kind, **options)
    return buffer.getvalue()


def encoded(tiles):
    ordered = sorted(tiles, key=lambda tile: tile.hilbert)
    return [(tile, as_png(tiles[tile])) for tile in ordered]


@pytest.fixture
def tiles():
    places = [TileId(14, 3714 + x, 6291 + y) for x in range(3) for y in range(5)]
    places += [TileId(15, 7429, 12583), TileId(15, 7428, 12582)]
    return {place: picture(seed) for seed, place in enumerate(places)}


@pytest.fixture
def path(tmp_path, tiles):
    return write_archive(tmp_path / "small.pmtiles", encoded(tiles), metadata=META)


@pytest.mark.parametrize("bands", [3, 4])
def test_png_keeps_levels_and_their_order_as_pillow_sees_them(bands):
    image = picture(3, bands)
    data = as_png(image)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), image.squeeze())
    np.testing.assert_array_equal(decode(data), image)


@pytest.mark.parametrize("shape", [(1, 1, 4), (1, 7, 3), (5, 1, 3), (3, 300, 4)])
def test_png_of_any_shape_is_what_pillow_sees(shape):
    whole = np.random.default_rng(5).integers(0, 256, (shape[0], 2 * shape[1], shape[2]), np.uint8)
    image = whole[:, ::2]  # not contiguous
    seen = np.asarray(Image.open(io.BytesIO(as_png(image)))).reshape(shape)
    assert np.array_equal(seen, image)
    assert np.array_equal(decode(as_png(image)), image)


@pytest.mark.parametrize("mode", ["L", "P", "RGB", "RGBA"])
@pytest.mark.parametrize("level", [0, 9])
def test_png_of_other_programs_is_what_pillow_sees(mode, level):
    image = Image.fromarray(picture(4, 3)[:100]).convert(mode)
    data = with_pillow(np.asarray(image), "PNG", compress_level=level)
    if mode == "P":
        buffer = io.BytesIO()
        image.save(buffer, "PNG")
        data, image = buffer.getvalue(), image.convert("RGB")
    seen = np.asarray(image)
    assert np.array_equal(decode(data).squeeze(), seen)


@pytest.mark.parametrize("bands", [1, 2, 12])
def test_bands_of_16_bits_come_back_exactly(bands):
    image = np.random.default_rng(3).integers(0, 1 << 16, (32, 32, bands), dtype=np.uint16)
    for encoding in ENCODINGS:
        read = decode(encode(image, encoding))
        assert read.dtype == np.uint16
        np.testing.assert_array_equal(read, image)


def test_an_image_of_16_bits_that_is_not_square_is_refused_both_ways():
    with pytest.raises(ValueError, match="must be square, got 8 x 16 px"):
        encode(np.zeros((8, 16, 3), np.uint16), "png")
    with pytest.raises(ValueError, match="square bands one below the other"):
        decode(with_pillow(np.arange(84, dtype=np.uint16).reshape(7, 12), "PNG"))


def test_what_was_written_is_read(path, tiles):
    archive = Archive(path)
    assert set(archive.tiles()) == set(tiles)
    assert [tile.hilbert for tile in archive.tiles()] == archive.ids.tolist()
    assert archive.metadata == META
    assert len(archive) == len(tiles)
    assert verify(path) == []
    for tile, image in tiles.items():
        np.testing.assert_array_equal(archive.get(*tile), image)


def test_the_reference_reader_agrees(path, tiles):
    with path.open("rb") as file:
        reader = Reader(MmapSource(file))
        header = reader.header()
        assert header["clustered"]
        assert header["tile_type"] == TileType.PNG
        assert header["tile_compression"] == Compression.NONE
        assert (header["min_zoom"], header["max_zoom"]) == (14, 15)
        assert header["addressed_tiles_count"] == len(tiles)
        assert reader.metadata() == META
        for tile, image in tiles.items():
            np.testing.assert_array_equal(decode(reader.get(*tile)), image)
        assert reader.get(14, 1, 1) is None


def test_header_bounds_hold_every_tile(path):
    header = Archive(path).header
    assert header["min_lon_e7"] < -98.37e7 < header["max_lon_e7"]
    assert header["max_lon_e7"] - header["min_lon_e7"] == pytest.approx(3 * 360e7 / 2**14, abs=2)


def test_archives_of_the_reference_writer_are_read(tmp_path, tiles):
    path = tmp_path / "theirs.pmtiles"
    with path.open("wb") as file:
        writer = Writer(file)
        for tile in sorted(tiles, key=lambda tile: tile.hilbert):
            writer.write_tile(tile.hilbert, as_png(tiles[tile]))
        header = {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}
        writer.finalize(header, META)
    archive = Archive(path)
    for tile, image in tiles.items():
        np.testing.assert_array_equal(archive.get(*tile), image)


def test_tiles_out_of_order_are_refused(tmp_path, tiles):
    with pytest.raises(ValueError, match=r"once and in Hilbert order, got \("):
        write_archive(tmp_path / "again.pmtiles", encoded(tiles)[::-1], metadata=META)
    assert list(tmp_path.iterdir()) == []


def test_directories_with_leaves_are_read_as_the_reference_reader_does(tmp_path):
    rng = np.random.default_rng(5)
    start = TileId(16, 15_000, 25_000)
    places = [TileId(16, start.x + x, start.y + y) for x in range(131) for y in range(127)]
    kept = [places[n] for n in rng.permutation(len(places))[: len(places) * 2 // 3]]
    stub = as_png(picture(0)[:2, :2])
    kept.sort(key=lambda tile: tile.hilbert)
    tiles = [(tile, stub + rng.bytes(rng.integers(1, 1500))) for tile in kept]
    archive = Archive(write_archive(tmp_path / "many.pmtiles", tiles, metadata={}))
    assert archive.header["leaf_directory_length"] > 0
    with archive.path.open("rb") as file:
        theirs = dict(all_tiles(MmapSource(file)))
    assert theirs == {tuple(tile): data for tile, data in tiles}
    assert {tile: archive.read(*tile) for tile in archive.tiles()} == dict(tiles)


def test_equal_contents_are_stored_once_and_runs_are_expanded(tmp_path):
    black = as_png(np.zeros((256, 256, 3), np.uint8))
    parent = TileId(9, 131, 197)
    children = sorted(parent.children(2), key=lambda tile: tile.hilbert)
    tiles = [(child, black) for child in children]
    archive = Archive(write_archive(tmp_path / "black.pmtiles", tiles, metadata={}))
    assert archive.header["tile_entries_count"] == archive.header["tile_contents_count"] == 1
    assert archive.header["tile_data_length"] == len(black)
    assert set(archive.tiles()) == set(parent.children(2))
    assert not archive.get(*parent.children(2)[7]).any()


def test_a_place_given_twice_is_refused_and_nothing_is_left(tmp_path, tiles):
    tile = next(iter(tiles))
    pair = [(tile, as_png(tiles[tile]))] * 2
    with pytest.raises(ValueError, match=r"once and in Hilbert order, got \(14, 3714, 6291\)"):
        write_archive(tmp_path / "twice.pmtiles", pair, metadata={})
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("data", [b"<html>404</html>", b""])
def test_bytes_that_are_no_image_are_refused(tmp_path, data):
    with pytest.raises(ValueError, match="must be PNG, JPEG or WebP"):
        write_archive(tmp_path / "html.pmtiles", [(TileId(1, 0, 0), data)], metadata={})


def test_an_archive_of_nothing_is_refused(tmp_path):
    with pytest.raises(ValueError, match="at least one tile"):
        write_archive(tmp_path / "none.pmtiles", [], metadata={})


def test_a_failure_while_tiles_come_keeps_the_old_archive(tmp_path, path):
    before = path.read_bytes()

    def failing():
        yield TileId(3, 1, 1), as_png(picture(1))
        raise OSError("disk")

    with pytest.raises(OSError, match="disk"):
        write_archive(path, failing(), metadata={})
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_jpeg_and_webp_in_a_png_archive_are_told_by_content(tmp_path):
    smooth = cv2.GaussianBlur(picture(7, 3), (0, 0), 9)
    smooth[..., 0] //= 2
    data = {
        TileId(5, 8, 11): as_png(smooth),
        TileId(5, 9, 11): with_pillow(smooth, "JPEG", quality=95),
        TileId(5, 9, 12): with_pillow(smooth, "WEBP", lossless=True),
    }
    archive = Archive(write_archive(tmp_path / "mixed.pmtiles", data.items(), metadata={}))
    assert [image_format(archive.read(*tile)) for tile in data] == ["png", "jpeg", "webp"]
    assert verify(archive.path) == []
    for tile in data:
        assert np.abs(archive.get(*tile).astype(int) - smooth).max() < 12
    np.testing.assert_array_equal(archive.get(5, 9, 12), smooth)


def test_an_absent_tile_is_a_key_error(path):
    archive = Archive(path)
    assert TileId(14, 1, 1) not in archive.tiles()
    assert TileId(14, 3714, 6291) in archive.tiles()
    with pytest.raises(KeyError, match="14/1/1"):
        archive.get(14, 1, 1)


@pytest.mark.parametrize("kept", [1.0, 0.9, 0.5, 0.01])
def test_a_truncated_archive_is_refused_on_opening(tmp_path, path, kept):
    whole = path.read_bytes()
    short = tmp_path / "short.pmtiles"
    short.write_bytes(whole[: int(len(whole) * kept) - 1])
    with pytest.raises(ValueError, match=r"short\.pmtiles ends after [\d,]+ of [\d,]+ bytes"):
        Archive(short)


@pytest.mark.parametrize("data", [b"", b"PMTiles\x02" + bytes(200), b"<html>" + bytes(200)])
def test_another_format_is_refused(tmp_path, data):
    other = tmp_path / "other.pmtiles"
    other.write_bytes(data)
    with pytest.raises(ValueError, match="must be PMTiles version 3"):
        Archive(other)


@pytest.mark.parametrize("filling", [bytes(30), b"\x1f\x8b\x08" + bytes(27), bytes(range(30))])
def test_a_damaged_index_is_refused_and_told_by_verify(tmp_path, path, filling):
    whole = path.read_bytes()
    broken = tmp_path / "broken.pmtiles"
    broken.write_bytes(whole[:127] + filling + whole[157:])
    with pytest.raises(ValueError, match=r"Could not read the index of .*broken"):
        Archive(broken)
    assert [tile for tile, _ in verify(broken)] == [None]


def test_a_missing_archive_is_refused_with_what_to_do(tmp_path):
    with pytest.raises(ValueError, match=r"archive must exist, got .*none\.pmtiles: curate"):
        Archive(tmp_path / "none.pmtiles")


def test_verify_names_the_damaged_tile(tmp_path, path, capfd):
    archive = Archive(path)
    data = bytearray(path.read_bytes())
    spot = data.index(archive.read(15, 7429, 12583)) + 5000
    data[spot] ^= 255
    damaged = tmp_path / "damaged.pmtiles"
    damaged.write_bytes(data)
    assert [tile for tile, _ in verify(damaged)] == [TileId(15, 7429, 12583)]
    capfd.readouterr()


def test_verify_finds_what_sources_leave_where_a_tile_should_be(tmp_path):
    good, black = as_png(picture(1, 3)), as_png(np.zeros((256, 256, 3), np.uint8))
    contents = {
        TileId(5, 8, 11): good,
        TileId(5, 9, 11): b"<html><body>503 Service Unavailable</body></html>",
        TileId(5, 9, 12): black,
        TileId(5, 10, 12): black,
        TileId(5, 11, 13): good[: len(good) // 2],
    }
    path = tmp_path / "released.pmtiles"
    with path.open("wb") as file:  # the reference writer checks nothing
        writer = Writer(file)
        for tile in sorted(contents, key=lambda tile: tile.hilbert):
            writer.write_tile(tile.hilbert, contents[tile])
        writer.finalize(
            {"tile_type": TileType.PNG, "tile_compression": Compression.NONE}, {"attribution": ""}
        )
    problems = dict(verify(path))
    assert problems.keys() == contents.keys() - {TileId(5, 8, 11)}
    assert "must be PNG, JPEG or WebP" in problems[TileId(5, 9, 11)]
    assert problems[TileId(5, 9, 12)] == problems[TileId(5, 10, 12)] == "placeholder of one colour"
    assert "must be a whole png image" in problems[TileId(5, 11, 13)]


def test_verify_finds_a_place_listed_twice(tmp_path):
    path = tmp_path / "twice.pmtiles"
    with path.open("wb") as file:
        writer = Writer(file)
        for seed in (1, 2):
            writer.write_tile(TileId(5, 8, 11).hilbert, as_png(picture(seed)))
        writer.finalize({"tile_type": TileType.PNG, "tile_compression": Compression.NONE}, {})
    [(tile, problem)] = verify(path)
    assert tile is None
    assert "it lists a tile more than once" in problem


def test_the_command_line_tells_by_its_exit_whether_an_archive_is_sound(path, tmp_path):
    found = CliRunner().invoke(app, ["verify", str(path)])
    assert (found.exit_code, found.output) == (0, "0 problems in 1 archives\n")
    black = [(TileId(3, 2, 1), as_png(np.zeros((256, 256, 3), np.uint8)))]
    bad = write_archive(tmp_path / "bad.pmtiles", black, metadata={})
    short = tmp_path / "short.pmtiles"
    short.write_bytes(path.read_bytes()[:-1])
    found = CliRunner().invoke(app, ["verify", str(path), str(bad), str(short)])
    assert found.exit_code == 1
    assert f"{bad} 3/2/1: placeholder of one colour" in found.output
    assert f"{short}: {short} ends after" in found.output


def test_transparent_or_varied_tiles_are_no_placeholders():
    clear = np.zeros((8, 8, 4), np.uint8)
    assert not is_placeholder(clear)
    assert is_placeholder(clear + np.array([0, 0, 0, 255], np.uint8))
    dotted = np.zeros((8, 8, 3), np.uint8)
    dotted[5, 3, 1] = 1
    assert not is_placeholder(dotted)


@pytest.mark.parametrize("bands", [3, 4])
def test_webp_is_lossless_even_under_transparency(bands):
    image = picture(5, bands)
    data = encode(image, "webp")
    assert image_format(data) == "webp"
    np.testing.assert_array_equal(decode(data), image)
    np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(data))), image)


def test_other_encodings_are_refused():
    with pytest.raises(ValueError, match="encoding must be one of png, webp, got 'jpeg'"):
        encode(picture(1), "jpeg")
    with pytest.raises(ValueError, match="3 or 4 bands, got 1"):
        encode(picture(1, 1), "webp")


def test_an_image_cut_short_is_refused():
    for data in (as_png(picture(1)), with_pillow(picture(1, 3), "JPEG")):
        with pytest.raises(ValueError, match="without an end"):
            decode(data[: len(data) // 2])


def digest(archive):
    total = hashlib.sha256()
    for tile in archive.tiles():
        total.update(archive.get(*tile).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_read_what_the_parent_reads(path, method):
    archive = Archive(path)
    with multiprocessing.get_context(method).Pool(2) as pool:
        assert set(pool.map(digest, [archive] * 3)) == {digest(archive)}


def test_a_pickled_archive_reads_after_the_first_is_closed(path, tiles):
    copy = pickle.loads(pickle.dumps(Archive(path)))
    tile = next(iter(tiles))
    np.testing.assert_array_equal(copy.get(*tile), tiles[tile])
