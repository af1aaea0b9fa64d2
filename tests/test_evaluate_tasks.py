"""Tasks are read as stored; damaged or hostile ones are refused with one clear error."""

import hashlib
import io
import itertools
import json
import os
import pickle
import re
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pytest
from geobench.dataset import Band, Partition, Sample, SpectralBand
from geobench.label import Classification, MultiLabelClassification
from geobench.task import TaskSpecifications
from labelled import read_split
from PIL import Image
from typer.testing import CliRunner

from exhibits.chips import missing_real
from exhibits.tables import input_rules
from salib.cli.app import app
from salib.evaluate import (
    geobench_task,
    geobench_tasks,
    real_tasks,
)
from salib.evaluate.tasks.class_folders import CHIP_ZIPS, members
from salib.evaluate.tasks.geobench_reader import raw_samples
from salib.evaluate.tasks.inputs import RULES, centre_square, to_input, to_pixel_values
from salib.evaluate.tasks.task import check_disjoint, chip_task, iter_split
from salib.files.download import FetchError

RGB = ("red", "green", "blue")
REAL = pytest.mark.skipif("SALIB_DATA_DIR" not in os.environ, reason="SALIB_DATA_DIR is not set")
HEIGHT, WIDTH = 11, 13


class Attack:
    """Unpickling this with pickle.loads would make a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


def write_task(folder, *, name="m-eurosat", label_type=None, sizes=(5, 2, 3)) -> Path:
    """A GEO-Bench task of int16 values, written by geobench's own writers."""
    rng = np.random.default_rng(7)
    root = folder / "classification_v1.0" / name
    root.mkdir(parents=True)
    bands = [
        SpectralBand(full, (alias,), 10.0, wave)
        for full, alias, wave in (
            ("02 - Blue", "blue", 0.49),
            ("03 - Green", "green", 0.56),
            ("04 - Red", "red", 0.665),
            ("08 - NIR", "nir", 0.842),
        )
    ]
    partition = Partition()
    number = 0
    for split, size in zip(("train", "valid", "test"), sizes, strict=True):
        for _ in range(size):
            data = rng.integers(0, 4000, (len(bands), HEIGHT, WIDTH)).astype(np.int16)
            layers = [Band(d, info, 10.0) for d, info in zip(data, bands, strict=True)]
            sample = Sample(layers, int(rng.integers(3)), f"id_{number:04d}")
            sample.write(str(root))
            partition.add(split, sample.sample_name)
            number += 1
    partition.save(str(root), "default")
    TaskSpecifications(
        name,
        bands,
        10.0,
        benchmark_name="classification_v1.0",
        patch_size=(HEIGHT, WIDTH),
        n_time_steps=1,
        label_type=label_type or Classification(3, ["a", "b", "c"]),
    ).save(str(root))
    return root


def write_zip(path, counts, *, size=(7, 5)) -> None:
    """A zip of solid chips whose grey level tells the number in the name."""
    with zipfile.ZipFile(path, "w") as archive:
        for label, count in counts.items():
            for number in range(count):
                buffer = io.BytesIO()
                Image.new("RGB", size, (number, 2 * number, 3)).save(buffer, "PNG")
                archive.writestr(f"Top/Images/{label}/{label}{number}.png", buffer.getvalue())
        archive.writestr("Top/readme.txt", "no image")


def split_of(path, layout, split):
    """Name in the zip and label of each chip of a split."""
    classes = members(path, layout)[split].values()
    return [(chip.at, label) for label, paths in enumerate(classes) for chip in paths]


def test_reader_gives_the_stored_values_in_the_order_red_green_blue(tmp_path):
    root = write_task(tmp_path)
    names = json.loads((root / "default_partition.json").read_text())
    for split in ("train", "valid", "test"):
        items = list(raw_samples(root, split, RGB))
        assert len(items) == len(names[split])
        for (raw, label), name in zip(items, names[split], strict=True):
            with h5py.File(root / f"{name}.hdf5") as file:
                stored = [np.asarray(file[b]) for b in ("04 - Red", "03 - Green", "02 - Blue")]
            np.testing.assert_array_equal(raw, np.stack(stored, -1))
            assert raw.dtype == np.int16
            assert 0 <= label < 3


def test_read_split_applies_the_stretch_of_the_rule_pixel_by_pixel(tmp_path):
    root = write_task(tmp_path)
    task = geobench_task(root, procedural=True)
    images, labels = read_split(task, "test")
    raw = list(raw_samples(root, "test", RGB))
    assert task.procedural
    assert task.class_names == ("a", "b", "c")
    assert labels.tolist() == [label for _, label in raw]
    for image, (values, _) in zip(images, raw, strict=True):
        for place in np.ndindex(values.shape):
            level = min(255.0, max(0.0, float(values[place]) / RULES["m-eurosat"].level_255 * 255))
            assert abs(int(image[place]) - level) <= 0.5


@pytest.mark.parametrize("where", ["task_specs.pkl", "sample"])
def test_a_hostile_pickle_is_refused_and_runs_nothing(tmp_path, where):
    root, proof = write_task(tmp_path), tmp_path / "ran"
    attack = pickle.dumps({"label": Attack(proof)} if where == "sample" else Attack(proof))
    if where == "sample":
        with h5py.File(root / "id_0000.hdf5", "r+") as file:
            file.attrs["pickle"] = str(attack)
    else:
        (root / where).write_bytes(attack)
    with pytest.raises(ValueError, match=r"UnsafePickleError.*system"):
        read_split(geobench_task(root, procedural=True), "train")
    assert not proof.exists()


def test_damaged_folders_each_give_one_clear_error(tmp_path):
    def task(name):
        return write_task(tmp_path / name)

    root = task("no-partition")
    (root / "default_partition.json").unlink()
    with pytest.raises(ValueError, match=r"must hold default_partition\.json"):
        geobench_task(root, procedural=True)
    root = task("no-file")
    (root / "id_0003.hdf5").unlink()
    with pytest.raises(ValueError, match="'id_0003'"):
        geobench_task(root, procedural=True)
    root = task("no-specs")
    (root / "task_specs.pkl").unlink()
    with pytest.raises(ValueError, match=r"task_specs\.pkl must be a readable"):
        geobench_task(root, procedural=True)
    root = task("truncated")
    data = (root / "id_0001.hdf5").read_bytes()
    (root / "id_0001.hdf5").write_bytes(data[: len(data) * 2 // 3])
    with pytest.raises(ValueError, match=r"id_0001\.hdf5 must be a readable"):
        read_split(geobench_task(root, procedural=True), "train")
    with pytest.raises(ValueError, match=r"classification_v1\.0"):
        geobench_tasks(tmp_path, procedural=True)


def test_tasks_without_a_rule_or_with_labels_of_another_kind_are_refused(tmp_path):
    with pytest.raises(ValueError, match="task must be one of"):
        geobench_task(write_task(tmp_path / "a", name="m-unknown"), procedural=True)
    many = write_task(tmp_path / "b", label_type=MultiLabelClassification(3))
    with pytest.raises(ValueError, match=r"multilabel label of .* must have 1 axes for 3 classes"):
        read_split(geobench_task(many, procedural=True), "train")


def test_splits_that_share_items_cannot_be_evaluated(tmp_path):
    root = write_task(tmp_path)
    task = geobench_task(root, procedural=True)
    check_disjoint(task)
    path = root / "default_partition.json"
    names = json.loads(path.read_text())
    for first, second in (("train", "test"), ("valid", "test"), ("train", "valid")):
        mixed = {**names, second: names[second] + names[first][:1]}
        path.write_text(json.dumps(mixed))
        with pytest.raises(ValueError, match=f"1 items in both {first} and {second}"):
            check_disjoint(task)


def test_zip_split_equals_the_rule_by_a_loop(tmp_path):
    path = tmp_path / "chips.zip"
    write_zip(path, {"bee": 11, "ant": 13})
    layout = CHIP_ZIPS["ucmerced"]._replace(bounds=(0, 5, 8, None))
    for split, (start, stop) in {"train": (0, 5), "valid": (5, 8), "test": (8, 99)}.items():
        expected = []
        for label, (name, count) in enumerate((("ant", 13), ("bee", 11))):
            files = [f"{name}{number}.png" for number in range(count)]
            files.sort(key=lambda file: hashlib.sha256(file.encode()).hexdigest())
            expected += [(f"Top/Images/{name}/{file}", label) for file in files[start:stop]]
        assert split_of(path, layout, split) == expected


@pytest.mark.parametrize(
    ("source", "count", "sizes"),
    [("eurosat", 409, (200, 100, 100)), ("ucmerced", 101, (40, 20, 41))],
)
def test_no_chip_of_a_published_archive_stands_in_two_splits(tmp_path, source, count, sizes):
    """The sizes stated for EuroSAT (the rest is left out) and UC Merced (all is used)."""
    path = tmp_path / CHIP_ZIPS[source].file
    with zipfile.ZipFile(path, "w") as archive:
        for label, number in itertools.product(("bee", "ant"), range(count)):
            archive.writestr(f"Top/{label}/{label}_{number}.jpg", b"")
    splits = [
        {chip for chip, _ in split_of(path, CHIP_ZIPS[source], split)}
        for split in ("train", "valid", "test")
    ]
    assert tuple(len(chips) for chips in splits) == tuple(2 * size for size in sizes)
    assert len(set().union(*splits)) == 2 * sum(sizes)


def test_zip_chips_are_decoded_to_rgb_at_their_own_size(tmp_path):
    path = tmp_path / CHIP_ZIPS["ucmerced"].file
    write_zip(path, {"ant": 61, "bee": 63})
    task = chip_task(path, source="ucmerced")
    images, labels = read_split(task, "test")
    chips = split_of(path, CHIP_ZIPS["ucmerced"], "test")
    assert labels.tolist() == [0, 1, 1, 1]
    for image, (name, _) in zip(images, chips, strict=True):
        number = int("".join(c for c in Path(name).stem if c.isdigit()))
        np.testing.assert_array_equal(image, np.full((5, 7, 3), (number, 2 * number, 3)))
    assert [found.name for found in real_tasks(tmp_path)] == ["ucmerced"]


def test_damaged_or_small_zips_are_refused(tmp_path):
    path = tmp_path / CHIP_ZIPS["ucmerced"].file
    write_zip(path, {"ant": 60})
    with pytest.raises(ValueError, match=r"more than 60 chips .* got 60"):
        read_split(chip_task(path, source="ucmerced"), "test")
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(ValueError, match="must be a whole zip"):
        real_tasks(tmp_path)


def png(level):
    buffer = io.BytesIO()
    Image.new("RGB", (5, 7), (level % 256, level // 256, 3)).save(buffer, "PNG")
    return buffer.getvalue()


def chips_at(tree, count=61, first=0):
    """Names and bytes of so many chips of two classes, all different."""
    names = [f"{tree}{label}/{label}{number}.png" for label in "ab" for number in range(count)]
    return {name: png(first + number) for number, name in enumerate(names)}


def zipped(folder, chips, change=None):
    """The published name, of other content; `change` sets what its entries say."""
    path = folder / CHIP_ZIPS["ucmerced"].file
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in chips.items():
            archive.writestr(name, data)
        for info in archive.infolist() if change else ():
            change(info)
    return path


def mac(chips):
    hidden = {"__MACOSX/{0}/._{2}".format(*name.rpartition("/")): b"x" for name in chips}
    return chips | hidden | {".DS_Store": b"x", "X/.hidden.png": b"x"}


@pytest.mark.parametrize("tree", ["", "UCMerced_LandUse/Images/", "2750/", "./"])
def test_zips_of_any_one_tree_are_read(tmp_path, tree):
    chips = chips_at(tree)
    if tree == "2750/":
        chips = mac({name.replace("png", "PNG"): data for name, data in chips.items()})
    task = chip_task(zipped(tmp_path, chips), source="ucmerced")
    check_disjoint(task)
    assert task.class_names == ("a", "b")
    assert len(read_split(task, "test")[0]) == 2


@pytest.mark.parametrize(
    "chips",
    [
        chips_at("flat/") | chips_at("images/train/", 40) | chips_at("images/test/", 20),
        chips_at("EuroSAT/") | {n.replace("png", "tif"): d for n, d in chips_at("tif/").items()},
        chips_at("train/") | chips_at("test/", 9, 200),
        chips_at("") | chips_at("again/", 61, 200),
        chips_at("../"),
        chips_at("/x/../../"),
    ],
    ids=["twice", "13 bands too", "split", "mixed", "above", "above root"],
)
def test_zips_of_several_trees_are_refused_with_their_names(tmp_path, chips):
    path = zipped(tmp_path, chips)
    with pytest.raises(ValueError, match="must hold each chip once, as <class>/<chip> of one") as e:
        chip_task(path, source="ucmerced")
    trees = {str(Path(name).parent.parent) for name in chips}
    assert all(repr(tree) in str(e.value) for tree in trees)


def test_a_zip_that_lists_a_chip_twice_is_refused(tmp_path):
    chips = chips_at("x/")
    path = zipped(tmp_path, chips)
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("x/a/a3.png", png(999))
    with pytest.raises(ValueError, match="must hold each chip once"):
        chip_task(path, source="ucmerced")


def test_equal_chips_in_two_splits_of_a_zip_are_refused_but_for_known_twins(tmp_path):
    chips = chips_at("x/")
    layout = CHIP_ZIPS["ucmerced"]
    splits = [split_of(zipped(tmp_path, chips), layout, split) for split in ("train", "test")]
    (one, _), (other, _) = (split[0] for split in splits)
    path = zipped(tmp_path, chips | {other: chips[one]})
    with pytest.raises(ValueError, match="1 items in both train and test") as error:
        check_disjoint(chip_task(path, source="ucmerced"))
    assert repr(one) in str(error.value)
    assert repr(other) in str(error.value)
    names = [f"x/airplane/airplane{number:02d}.png" for number in range(61)]
    twins = {name: png(number) for number, name in enumerate(names)}
    twins["x/airplane/airplane01.png"] = twins["x/airplane/airplane02.png"]
    check_disjoint(chip_task(zipped(tmp_path, twins), source="ucmerced"))


def encrypted(info):
    info.flag_bits |= 1


def huge(info):
    info.file_size = 1 << 31


def unknown_method(info):
    info.compress_type = 97


def wrong_sum(info):
    info.CRC ^= 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (encrypted, "plain chips .* encrypted"),
        (huge, "at most, got .* of 2,147,483,648 bytes, unpacked"),
        (unknown_method, "must be a whole image, got 0 bytes"),
        (wrong_sum, "must be a whole image, got 0 bytes"),
    ],
)
def test_odd_entries_of_a_zip_are_refused_in_a_line(tmp_path, change, message):
    path = zipped(tmp_path, chips_at("x/"), change)
    with pytest.raises(ValueError, match=message) as error:
        read_split(chip_task(path, source="ucmerced"), "test")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", ["x/a\x07b/1.png", "x/a\nb/1.png"])
def test_class_names_of_a_zip_that_cannot_be_printed_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match=r"class name in .* without control characters"):
        chip_task(zipped(tmp_path, {name: png(1)}), source="ucmerced")


@pytest.mark.parametrize("ignore", [255, 99, -1])
def test_masks_may_have_a_value_that_is_no_class(tmp_path, ignore):
    from labelled import write_layout

    root = write_layout(tmp_path, "m-cashew-plant")
    plain = dict(enumerate(label for _, label in raw_samples(root, "train", RGB)))
    for path in root.glob("*.hdf5"):
        with h5py.File(path, "r+") as file:
            [key] = [key for key in file if key.startswith("label")]
            file[key][:4, :7] = ignore
    with pytest.raises(ValueError, match=rf"must be 0 to 6, got .*{ignore}.* --ignore-label"):
        list(raw_samples(root, "train", RGB))
    task = geobench_task(root, procedural=False, ignore=ignore)
    masks = [label for _, label in iter_split(task, "train")]
    for number, mask in enumerate(masks):
        assert (mask[:4, :7] == -1).all()
        np.testing.assert_array_equal(mask[4:], plain[number][4:])
    with pytest.raises(ValueError, match="must be 0 to 6"):
        list(raw_samples(root, "train", RGB, ignore=77))


@pytest.mark.parametrize("image_px", [29, 64, 256])
def test_gsd_keeps_the_ground_that_the_image_covers(image_px):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (53, 61, 3)).astype(np.uint8)
    resized, gsd_m = to_input(image, native_gsd_m=0.3, image_px=image_px)
    assert resized.shape == (image_px, image_px, 3)
    assert gsd_m * image_px == pytest.approx(53 * 0.3)


def test_shrinking_averages_over_area_and_same_size_changes_nothing():
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (33, 33, 3)).astype(np.uint8)
    small, _ = to_input(image, native_gsd_m=1.0, image_px=11)
    means = image.reshape(11, 3, 11, 3, 3).mean((1, 3))
    assert np.abs(small - means).max() <= 0.5 + 1e-6
    same, gsd_m = to_input(image, native_gsd_m=1.7, image_px=33)
    np.testing.assert_array_equal(same, image)
    assert gsd_m == 1.7
    assert set(input_rules().index) >= set(RULES)
    with pytest.raises(ValueError, match="finite"):
        to_pixel_values(np.full((3, 2, 3), np.nan), RULES["m-eurosat"])


@pytest.mark.parametrize(("height", "width"), [(11, 13), (13, 11), (12, 7), (7, 7), (1, 5)])
def test_a_mask_is_cropped_to_the_ground_that_its_image_keeps(height, width):
    image = np.random.default_rng(0).integers(0, 256, (height, width, 3)).astype(np.uint8)
    side = min(height, width)
    seen, _ = to_input(image, native_gsd_m=1.0, image_px=side)
    np.testing.assert_array_equal(centre_square(image), seen)
    np.testing.assert_array_equal(centre_square(image[..., 0].astype(np.int64)), seen[..., 0])
    before = np.argwhere((image == seen[0, 0]).all(-1)).tolist()
    top, left = (height - side) / 2, (width - side) / 2
    assert any(0 <= top - y < 1 and 0 <= left - x < 1 for y, x in before)


def test_the_commands_that_hints_and_the_book_name_are_those_of_the_command_line(
    tmp_path, monkeypatch
):
    monkeypatch.setenv("SALIB_DATA_DIR", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    hints = missing_real(None)
    assert missing_real(tmp_path) == hints
    pattern = re.compile(
        r"salib (fetch (?:eurosat|ucmerced|geobench)(?: m-[\w-]+)*(?: --out \w+)?)"
    )
    named = [pattern.findall(hint) for hint in hints]
    assert named == [["fetch eurosat"], ["fetch ucmerced"]]
    told = pattern.findall((Path(__file__).parents[1] / "book" / "run.md").read_text())
    assert {command.split()[1] for command in told} == {"eurosat", "ucmerced", "geobench"}
    for command in {*told, *(command for [command] in named)}:
        outcome = CliRunner().invoke(app, [*command.split(), "--offline"])
        assert isinstance(outcome.exception, FetchError), outcome.output
    for layout in CHIP_ZIPS.values():
        (tmp_path / layout.file).touch()
    assert missing_real(tmp_path) == []


@pytest.mark.real
@REAL
def test_real_samples_equal_geobench_own_arrays():
    root = Path(os.environ["SALIB_DATA_DIR"]) / "geobench_real"
    task, crops = geobench_tasks(root, procedural=False)
    assert (task.name, crops.name) == ("m-eurosat", "m-SA-crop-type")
    items = list(raw_samples(task.path, "test", RGB))
    assert len(items) == 5
    for number, (raw, label) in enumerate(items):
        with h5py.File(task.path / f"id_{number:04d}.hdf5") as file:
            stored = [np.asarray(file[b]) for b in ("04 - Red", "03 - Green", "02 - Blue")]
        np.testing.assert_array_equal(raw, np.stack(stored, -1))
        assert task.class_names[label] == "Industrial Buildings"
    with pytest.raises(ValueError, match="disjoint"):
        check_disjoint(task)


@pytest.mark.real
@REAL
def test_real_archives_give_the_documented_sizes():
    eurosat, ucmerced = real_tasks(os.environ["SALIB_DATA_DIR"])
    sizes = {
        (task.name, split): len(split_of(task.path, CHIP_ZIPS[task.name], split))
        for task in (eurosat, ucmerced)
        for split in ("train", "valid", "test")
    }
    assert list(sizes.values()) == [2000, 1000, 1000, 840, 420, 630]
    images, labels = read_split(eurosat, "valid")
    assert {image.shape for image in images} == {(64, 64, 3)}
    assert np.bincount(labels).tolist() == [100] * 10
    with zipfile.ZipFile(eurosat.path) as archive:
        name, _ = split_of(eurosat.path, CHIP_ZIPS["eurosat"], "valid")[0]
        decoded = np.asarray(Image.open(io.BytesIO(archive.read(name))).convert("RGB"))
    assert np.abs(images[0].astype(int) - decoded).max() <= 4
