"""Any labelled folder of images is a task: split by a rule, read as stored, or refused by name."""

import hashlib
import os
import shutil
from collections import Counter
from dataclasses import replace

import cv2
import numpy as np
import pytest
import rasterio
from labelled import read_split
from PIL import Image

from salib.evaluate import PROTOCOLS, Candidate, evaluate, folder_task
from salib.evaluate.tasks import SPLITS
from salib.evaluate.tasks.class_folders import SUFFIXES, members, read_rgb
from salib.evaluate.tasks.task import check_disjoint, iter_split

HEIGHT, WIDTH = 11, 13


def picture(seed, height=HEIGHT, width=WIDTH, bands=3):
    values = np.random.default_rng(seed).integers(0, 256, (height, width, bands))
    return values.astype(np.uint8)


def write(path, seed=0, **size):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed, **size)).save(path)
    return path


def touch(folder, counts):
    """Class folders of empty files: enough where nothing is decoded."""
    for label, count in counts.items():
        (folder / label).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            (folder / label / f"{number}.png").touch()
    return folder


def write_split(folder, per_class=2):
    """Own splits of two classes; no two images alike."""
    for i, split in enumerate(SPLITS):
        for j, label in enumerate(("ant", "bee")):
            for k in range(per_class):
                write(folder / split / label / f"{split}{k}.png", 100 * i + 10 * j + k)
    return folder


def names_of(found):
    return {
        split: {label: [path.name for path in paths] for label, paths in classes.items()}
        for split, classes in found.items()
    }


def test_class_folders_are_split_by_the_rule_of_a_loop(tmp_path):
    counts = {"bee": 23, "ant": 5, "cow": 1}
    found = names_of(members(touch(tmp_path, counts)))
    for label, count in counts.items():
        order = sorted(
            (f"{number}.png" for number in range(count)),
            key=lambda name: hashlib.sha256(f"{label}/{name}".encode()).hexdigest(),
        )
        train, seen = next(n for n in range(99) if n >= 0.6 * count), 0
        assert found["train"][label] == order[:train]
        while seen < 0.8 * count:
            seen += 1
        assert found["valid"][label] == order[train:seen]
        assert found["test"][label] == order[seen:]
    assert [list(classes) for classes in found.values()] == [["ant", "bee", "cow"]] * 3
    sizes = {label: [len(found[split][label]) for split in SPLITS] for label in counts}
    assert sizes == {"bee": [14, 5, 4], "ant": [3, 1, 1], "cow": [1, 0, 0]}


def test_a_class_has_a_valid_image_from_three_and_a_test_image_from_five(tmp_path):
    for count in range(1, 31):
        found = members(touch(tmp_path / str(count), {"a": count, "b": 9}))
        train, valid, test = (len(found[split]["a"]) for split in SPLITS)
        assert train >= 1
        assert bool(valid) == (count >= 3)
        assert bool(test) == (count >= 5)
        assert train + valid + test == count
        assert abs(train - 0.6 * count) < 1
        assert abs(test - 0.2 * count) < 1


def test_an_added_image_moves_at_most_one_other_of_its_class_across_each_bound(tmp_path):
    touch(tmp_path, {"a": 7, "b": 11})
    before = members(tmp_path)
    for number in range(7, 60):
        (tmp_path / "a" / f"{number}.png").touch()
        after = members(tmp_path)
        assert {s: found["b"] for s, found in after.items()} == {
            s: found["b"] for s, found in before.items()
        }
        now = {path: split for split, found in after.items() for path in found["a"]}
        moves = Counter(
            tuple(sorted((split, now[path])))
            for split, found in before.items()
            for path in found["a"]
            if now[path] != split
        )
        assert set(moves) <= {("train", "valid"), ("test", "valid")}
        assert all(count == 1 for count in moves.values())
        before = after


def test_a_copy_elsewhere_and_under_another_name_is_split_alike(tmp_path):
    first = names_of(members(touch(tmp_path / "here", {"a": 17, "b": 13})))
    shutil.copytree(tmp_path / "here", tmp_path / "there" / "copy")
    assert names_of(members(tmp_path / "there" / "copy")) == first


def test_own_splits_are_kept_and_levels_equal_those_of_pillow(tmp_path):
    write_split(tmp_path / "insects", per_class=3)
    task = folder_task(tmp_path / "insects", gsd_m=0.3)
    assert (task.name, task.source, task.procedural) == ("insects", "folder", False)
    assert task.class_names == ("ant", "bee")
    for split in SPLITS:
        images, labels = read_split(task, split)
        assert labels.tolist() == [0, 0, 0, 1, 1, 1]
        stored = {
            np.asarray(Image.open(path)).tobytes(): path.parent.name
            for path in (tmp_path / "insects" / split).glob("*/*")
        }
        assert [stored[image.tobytes()] for image in images] == ["ant"] * 3 + ["bee"] * 3
    with pytest.raises(ValueError, match="split must be one of"):
        read_split(task, "val")


def test_the_task_carries_its_rule_and_names_no_published_task(tmp_path):
    write_split(tmp_path / "m-eurosat")
    with pytest.raises(ValueError, match=r"name must differ .* 'm-eurosat'"):
        folder_task(tmp_path / "m-eurosat", gsd_m=10.0)
    task = folder_task(tmp_path / "m-eurosat", gsd_m=7.0, name="mine")
    assert task.rule_of().native_gsd_m == 7.0
    assert task.sensors == ("lores", "hires")
    with pytest.raises(ValueError, match="modality must be 'optical' for mine, got 'radar'"):
        next(iter_split(task, "test", modality="radar"))
    for gsd_m in (0.0, -1.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="gsd_m must be positive"):
            folder_task(task.path, gsd_m=gsd_m, name="mine")
    for name in ("", "a\nb", "\udcff"):
        with pytest.raises(ValueError, match="name must be text"):
            folder_task(task.path, gsd_m=1.0, name=name)


@pytest.mark.parametrize("suffix", [*SUFFIXES, ".PNG"])
def test_each_format_is_read_at_its_own_size_in_the_order_red_green_blue(tmp_path, suffix):
    levels = np.zeros((16, 32, 3), np.uint8)
    levels[:] = (200, 100, 30)
    path = tmp_path / f"a{suffix}"
    Image.fromarray(levels).save(path)
    image = read_rgb(path)
    assert image.shape == levels.shape
    assert np.abs(image.astype(int) - levels).max() <= 4


@pytest.mark.parametrize(
    "options",
    [
        {"interleave": "pixel"},
        {"interleave": "band"},
        {"compress": "deflate", "predictor": 2, "interleave": "pixel"},
        {"compress": "lzw", "tiled": True, "blockxsize": 16, "blockysize": 16},
        {"photometric": "RGB", "tiled": True, "blockxsize": 16, "blockysize": 16,
         "interleave": "band", "compress": "deflate"},
    ],
)  # fmt: skip
def test_tiffs_of_gdal_are_read_as_rasterio_reads_them(tmp_path, options):
    levels = picture(3, 37, 41)
    write_tiff(tmp_path / "a.tif", levels, **options)
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.tif"), levels)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def write_tiff(path, values, **options):
    height, width, bands = values.shape
    shape = {"width": width, "height": height, "count": bands, "dtype": values.dtype}
    place = {"crs": "EPSG:32632", "transform": rasterio.Affine(1, 0, 5e5, 0, -1, 5e6)}
    with rasterio.open(path, "w", driver="GTiff", **shape, **place, **options) as file:
        file.write(values.transpose(2, 0, 1))
    return path


def test_an_opaque_alpha_band_is_dropped_and_a_palette_resolved(tmp_path):
    levels = picture(5)
    opaque = np.dstack([levels, np.full(levels.shape[:2], 255, np.uint8)])
    Image.fromarray(opaque).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "a.png"), levels)
    few = Image.fromarray(levels).quantize(7)
    few.save(tmp_path / "p.png")
    np.testing.assert_array_equal(read_rgb(tmp_path / "p.png"), np.asarray(few.convert("RGB")))


def wrong_images(folder):
    """Images that are whole but not 8-bit RGB, and what the error says of each."""
    levels = picture(5)
    clear = np.dstack([levels, np.full(levels.shape[:2], 255, np.uint8)])
    clear[3, 4, 3] = 254
    grey = Image.fromarray(levels[..., 0])
    deep = levels.astype(np.uint16) * 257
    Image.fromarray(clear).save(folder / "clear.png")
    grey.save(folder / "grey.png")
    grey.save(folder / "grey.jpg")
    grey.convert("LA").save(folder / "grey-alpha.png")
    grey.convert("1").save(folder / "bits.png")
    grey.convert("CMYK").save(folder / "cmyk.jpg")
    cv2.imwrite(str(folder / "deep.png"), deep)
    write_tiff(folder / "deep.tif", deep)
    write_tiff(folder / "float.tif", levels.astype(np.float32))
    write_tiff(folder / "signed.tif", levels.astype(np.int16))
    write_tiff(folder / "two.tif", picture(7, bands=2))
    write_tiff(folder / "many.tif", picture(7, bands=5))
    return {
        "clear.png": "must be opaque, got pixels without data .*lowest 254",
        "grey.png": "8-bit RGB, got bands L:",
        "grey.jpg": "8-bit RGB, got bands L:",
        "grey-alpha.png": "8-bit RGB, got bands L, A:",
        "bits.png": "8-bit RGB, got bands 1:",
        "cmyk.jpg": "8-bit RGB, got bands C, M, Y, K:",
        "deep.png": "8-bit RGB, got 16-bit bands R, G, B:",
        "deep.tif": "8-bit levels, got uint16 .*--level-255",
        "float.tif": "8-bit levels, got float32 .*--level-255",
        "signed.tif": "8-bit levels, got int16 .*--level-255",
        "two.tif": "must have 3 bands .*got 2: .*--bands",
        "many.tif": "must have 3 bands .*got 5: .*--bands",
    }


def test_near_infrared_beside_the_colours_is_left_out(tmp_path):
    write_tiff(tmp_path / "nir.tif", found := picture(7, bands=4))
    np.testing.assert_array_equal(read_rgb(tmp_path / "nir.tif"), found[..., :3])


def test_what_is_not_8_bit_rgb_is_refused_with_what_to_do(tmp_path):
    for name, said in wrong_images(tmp_path).items():
        with pytest.raises(ValueError, match=said) as caught:
            read_rgb(tmp_path / name)
        assert name in str(caught.value)
        assert "gdal_translate" in str(caught.value) or "--" in said


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("kept", [0, 0.02, 0.5, 0.9, 0.99])
def test_a_damaged_image_is_named(tmp_path, suffix, kept):
    write_split(tmp_path)
    path = tmp_path / "test" / "bee" / f"broken{suffix}"
    Image.fromarray(picture(9, 61, 67)).save(path)
    data = path.read_bytes()
    path.write_bytes(data[: int(kept * len(data))])
    with pytest.raises(ValueError, match=rf"test/bee/broken\{suffix}' must be a whole image"):
        read_split(folder_task(tmp_path, gsd_m=1.0), "test")


def test_bytes_that_are_no_image_are_named(tmp_path):
    for content in (b"<html>not found</html>", b"\0" * 999, b"\x89PNG\r\n\x1a\n" + b"x" * 99):
        (tmp_path / "a.png").write_bytes(content)
        with pytest.raises(ValueError, match=r"a\.png' must be a whole image"):
            read_rgb(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ([], "two class folders or more, .* got none"),
        (["a.png", "b.png"], "two class folders or more, .* got none"),
        ([".hidden/a.png", ".other/b.png"], "two class folders or more, .* got none"),
        (["ant/a.png", "ant/b.png"], r"two class folders or more, .* got \['ant'\]"),
        (["ant/a.png", "bee/notes.txt"], r"image to train on, .* got none of \['bee'\]"),
        (["ant/a.png", "bee/deep/b.png"], r"deep' must be an image, got a folder"),
        (["ant/a.png", "bee/b.png"], "valid of .* must hold an image"),
        (["train/ant/a.png", "train/bee/a.png", "test/ant/a.png"], "train, valid and test alone"),
        (["train/ant/a.png", "val/ant/a.png", "test/ant/a.png"], r"got \['test', 'train', 'val'\]"),
        ([f"{s}/{c}/a.png" for s in ("train", "valid", "test", "more") for c in "ab"], "alone"),
        ([f"{s}/{s}.png" for s in SPLITS], "two class folders or more, .* got none"),
        (["train/a/1.png", "train/b/1.png", "valid/a/1.png", "test/c/1.png"], r"none of \['c'\]"),
        (["train/a/1.png", "train/b/1.png", "valid/a/1.png", "test/a/.1.png"], "test of .* image"),
        (["a\tb/1.png", "c/1.png"], r"class name .* control characters, got 'a\\tb'"),
        (["\udcff/1.png", "c/1.png"], r"class name .* control characters, got '\\udcff'"),
    ],
)
def test_folders_that_are_no_task_each_give_one_clear_error(tmp_path, names, said):
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match=said):
        folder_task(tmp_path, gsd_m=1.0)


def test_a_folder_that_is_not_there_or_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    for name in ("absent", "file"):
        with pytest.raises(ValueError, match="must be a folder of class folders"):
            folder_task(tmp_path / name, gsd_m=1.0)


def test_a_class_may_lack_test_images_and_still_counts(tmp_path):
    write_split(tmp_path)
    shutil.rmtree(tmp_path / "test" / "ant")
    shutil.rmtree(tmp_path / "valid" / "bee")
    task = folder_task(tmp_path, gsd_m=1.0)
    assert task.n_classes == 2
    assert read_split(task, "test")[1].tolist() == [1, 1]
    assert read_split(task, "valid")[1].tolist() == [0, 0]


def test_hidden_entries_and_other_files_are_left_out(tmp_path):
    write_split(tmp_path)
    before = members(tmp_path)
    for name in (".DS_Store", "readme.md", "train/labels.csv", "train/ant/._train0.png",
                 "train/ant/.thumbs/a.png", "train/ant/train0.png.aux.xml", "test/.x/a.png",
                 ".git/a.png"):  # fmt: skip
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    assert members(tmp_path) == before


def test_names_of_any_bytes_are_read_and_told(tmp_path):
    odd = [
        "a b.png",
        "-rf.png",
        "'\".png",
        "new\nline.png",
        "\udcff\udc80.png",
        "Ü%s{0}.png",
        "💧.png",
    ]
    write_split(tmp_path / "x")
    for number, name in enumerate(odd):
        write(tmp_path / "x" / "train" / "ant" / name, 1000 + number)
    task = folder_task(tmp_path / "x", gsd_m=1.0, name="odd names, all of them")
    images, _ = read_split(task, "train")
    assert len(images) == 4 + len(odd)
    check_disjoint(task)
    for name in odd:
        (tmp_path / "x" / "train" / "ant" / name).write_bytes(b"")
        with pytest.raises(ValueError, match="must be a whole image, got 0 bytes") as caught:
            read_split(task, "train")
        str(caught.value).encode("utf-8")
        write(tmp_path / "x" / "train" / "ant" / name, 0)


def test_links_are_followed_and_broken_ones_named(tmp_path):
    inside = write_split(tmp_path / "in")
    os.symlink("train0.png", inside / "train" / "ant" / "again.png")
    os.symlink("in", tmp_path / "way")
    task = folder_task(tmp_path / "way", gsd_m=1.0, name="linked")
    assert read_split(task, "train")[1].tolist() == [0, 0, 0, 1, 1]
    check_disjoint(task)
    os.symlink("..", inside / "train" / "cow")
    with pytest.raises(ValueError, match="must be an image, got a folder"):
        folder_task(inside, gsd_m=1.0)
    (inside / "train" / "cow").unlink()
    os.symlink("nothing.png", inside / "train" / "ant" / "lost.png")
    with pytest.raises(ValueError, match=r"lost\.png' must be an image, got .* broken link"):
        folder_task(inside, gsd_m=1.0)


def test_a_pipe_among_the_images_is_refused_and_not_waited_for(tmp_path):
    write_split(tmp_path)
    os.mkfifo(tmp_path / "test" / "ant" / "pipe.png")
    with pytest.raises(ValueError, match=r"pipe\.png' must be an image"):
        folder_task(tmp_path, gsd_m=1.0)


@pytest.mark.parametrize("pair", [("train", "test"), ("valid", "test"), ("train", "valid")])
def test_the_same_image_in_two_splits_is_refused_by_both_names(tmp_path, pair):
    task = folder_task(write_split(tmp_path / "x"), gsd_m=1.0)
    check_disjoint(task)
    first, second = pair
    shutil.copy(
        tmp_path / "x" / first / "ant" / f"{first}0.png",
        tmp_path / "x" / second / "bee" / "under another name.png",
    )
    with pytest.raises(ValueError, match=f"1 items in both {first} and {second}") as caught:
        check_disjoint(task)
    assert f"'{first}/ant/{first}0.png'" in str(caught.value)
    assert f"'{second}/bee/under another name.png'" in str(caught.value)


def test_the_same_image_in_two_classes_of_one_split_is_no_leak(tmp_path):
    write_split(tmp_path)
    shutil.copy(tmp_path / "test" / "ant" / "test0.png", tmp_path / "test" / "bee" / "same.png")
    check_disjoint(folder_task(tmp_path, gsd_m=1.0))


class Colour:
    """An encoder of three numbers."""

    def embed(self, images, *, sensor, gsd_m):
        return images.float().mean((2, 3)) + 0 * gsd_m[:, None]


def test_evaluation_of_a_folder_scores_separable_classes_1_at_their_true_gsd(tmp_path):
    rng = np.random.default_rng(0)
    for label, level in (("dark", 30), ("light", 200)):
        for number in range(20):
            values = rng.integers(level, level + 20, (9 + number, 9, 3)).astype(np.uint8)
            path = tmp_path / label / f"{number}.png"
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(values).save(path)
    task = folder_task(tmp_path, gsd_m=0.7, name="shades")
    encoders = {
        "mine": Candidate(model=Colour(), sensor="lores"),
        "untrained": Candidate(model=Colour(), sensor="lores", trained=False),
    }
    protocol = replace(PROTOCOLS["default"], hidden=16, epochs=10, umap_neighbours=3)
    rows = evaluate(encoders, [task], protocol=protocol, image_px=8, seed=0, against="untrained")
    knn = rows[(rows["model"] == "mine") & (rows["probe"] == "knn")].iloc[0]
    assert (knn["task"], knn["source"], knn["procedural"]) == ("shades", "folder", False)
    assert (knn["n_train"], knn["n_valid"], knn["n_test"]) == (24, 8, 8)
    assert knn["value"] == 1
    assert knn["gsd_m"] == pytest.approx(0.7 * 9 / 8)
