"""All twelve layouts are read as geobench reads them; odd, damaged and hostile files are named."""

import ast
import json
import os
import pickle
import shutil
import subprocess
import sys
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
from geobench import dataset as gb
from geobench import label as gb_label
from geobench.dataset import Band, Partition, Sample, SegmentationClasses, SpectralBand
from geobench.label import Classification, MultiLabelClassification
from geobench.task import TaskSpecifications, load_task_specs
from labelled import HEIGHT, LAYOUTS, WIDTH, read_split, write_layout

from earth import write_geobench
from exhibits.tables import input_rules
from salib.evaluate import Candidate, evaluate, geobench_task, geobench_tasks
from salib.evaluate.tasks.geobench_reader import STORED_AS, describe, raw_samples, sample_names
from salib.evaluate.tasks.inputs import RADAR_RULES, RULES, TWELVE_BAND_RULES, to_pixel_values
from salib.evaluate.tasks.task import iter_split

RGB = ("red", "green", "blue")
RADAR = RADAR_RULES["m-so2sat"]
REAL = pytest.mark.skipif("SALIB_DATA_DIR" not in os.environ, reason="SALIB_DATA_DIR is not set")


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "geobench"
    for name in LAYOUTS:
        write_layout(out, name)
    return out


def folder_of(bench, name) -> Path:
    return bench / LAYOUTS[name].benchmark / name


def by_geobench(folder, split, bands):
    """What geobench's own loader gives: every band read, then packed; and the label."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*incorrect band names")
        data = load_task_specs(folder).get_dataset(split)
        for number in range(len(data)):
            sample = data[number]
            label = sample.label.data if isinstance(sample.label, Band) else sample.label
            yield sample.pack_to_3d(list(bands))[0], label


def assert_equal(ours, theirs):
    pairs = list(zip(ours, theirs, strict=True))
    assert pairs
    for (raw, label), (their_raw, their_label) in pairs:
        np.testing.assert_array_equal(raw, their_raw)
        assert raw.dtype == their_raw.dtype
        np.testing.assert_array_equal(label, their_label)


def write_task(folder, labels, label_type, *, data=None) -> Path:
    """A task m-pv4ger of one sample a label; the last is the test and that before it valid."""
    masks = isinstance(label_type, SegmentationClasses)
    root = folder / f"{'segmentation' if masks else 'classification'}_v1.0" / "m-pv4ger"
    root.mkdir(parents=True)
    waves = zip(RGB, (0.6, 0.5, 0.4), strict=True)
    infos = [SpectralBand(name.title(), (name,), 0.1, wave) for name, wave in waves]
    rng = np.random.default_rng(3)
    partition = Partition()
    for number, label in enumerate(labels):
        drawn = rng.integers(0, 256, (3, HEIGHT, WIDTH)).astype(np.uint8)
        values = drawn if data is None else data
        layers = [Band(d, info, 0.1) for d, info in zip(values, infos, strict=True)]
        if isinstance(label, np.ndarray) and label.ndim > 1:
            label = Band(label, label_type, 0.1)
        Sample(layers, label, f"id_{number}").write(str(root))
        place = number - len(labels)
        partition.add({-1: "test", -2: "valid"}.get(place, "train"), f"id_{number}")
    partition.save(str(root), "default")
    TaskSpecifications(
        "m-pv4ger", infos, 0.1, patch_size=(HEIGHT, WIDTH), n_time_steps=1, label_type=label_type
    ).save(str(root))
    return root


@pytest.mark.parametrize("name", LAYOUTS)
def test_rgb_values_and_labels_equal_geobench_own_in_every_layout(bench, name):
    folder = folder_of(bench, name)
    for split in ("train", "valid", "test"):
        ours = raw_samples(folder, split, RGB)
        assert_equal(ours, by_geobench(folder, split, RGB))


@pytest.mark.parametrize("name", LAYOUTS)
def test_each_band_alone_equals_geobench_own_under_the_name_it_is_stored_by(bench, name):
    folder = folder_of(bench, name)
    stored = STORED_AS.get(name, {})
    for info in LAYOUTS[name].bands:
        ours = raw_samples(folder, "test", (info.name,))
        theirs = by_geobench(folder, "test", (stored.get(info.name, info.name),))
        assert_equal(ours, theirs)


@pytest.mark.parametrize("name", LAYOUTS)
def test_items_have_the_shapes_and_types_that_heads_expect(bench, name):
    task, layout = geobench_task(folder_of(bench, name), procedural=True), LAYOUTS[name]
    assert (task.kind, task.n_classes) == (layout.kind, layout.label.n_classes)
    assert task.rule_of().native_gsd_m == (10 if name == "m-cashew-plant" else layout.gsd_m)
    for image, label in iter_split(task, "valid"):
        assert image.dtype == np.uint8
        assert image.shape == (HEIGHT, WIDTH, 3)
        if task.kind == "classification":
            assert type(label) is int
            assert 0 <= label < task.n_classes
            continue
        assert label.dtype == np.int64
        assert label.shape == ((43,) if task.kind == "multilabel" else image.shape[:2])
        assert 0 <= label.min() <= label.max() < (2 if label.ndim == 1 else task.n_classes)


def test_the_stretch_of_eurosat_takes_its_reflectances_to_its_own_rgb_archive():
    """Mean red, green and blue as published: of the 13 bands (torchgeo), and of the RGB chips."""
    reflectance = np.array([[[947.62620298, 1042.92983953, 1118.24399958]]])
    chips = 255 * np.array([0.3444, 0.3803, 0.4078])
    levels = to_pixel_values(reflectance, RULES["m-eurosat"])[0, 0].astype(float)
    np.testing.assert_allclose(levels, chips, atol=1)
    so2sat = to_pixel_values(reflectance / 10_000, RULES["m-so2sat"])[0, 0].astype(float)
    np.testing.assert_allclose(so2sat, levels, atol=1)


def test_radar_is_vv_then_vh_by_the_rule_pixel_by_pixel(bench):
    task = geobench_task(folder_of(bench, "m-so2sat"), procedural=True)
    assert task.sensors == ("radar", "lores", "hires")
    theirs = by_geobench(task.path, "train", ("06 - VV.LEE Filtered", "05 - VH.LEE Filtered"))
    ours = iter_split(task, "train", modality="radar")
    for (image, label), (raw, their_label) in zip(ours, theirs, strict=True):
        assert image.shape == (HEIGHT, WIDTH, 2)
        assert label == their_label
        for place in [(0, 0), (3, 29), (19, 7), (17, 16)]:
            for band in (0, 1):
                dn = 597 * float(raw[(*place, band)]) ** 0.5
                assert image[(*place, band)] == min(int(dn * 256 / 1000), 255)
    eurosat = geobench_task(folder_of(bench, "m-eurosat"), procedural=True)
    with pytest.raises(
        ValueError, match="modality must be 'optical' or 'multispectral' for m-eurosat"
    ):
        next(iter_split(eurosat, "test", modality="radar"))


def test_radar_levels_saturate_and_refuse_negative_intensity():
    raw = np.array([0.0, 1e-4, RADAR.level_255**2, 4.0], np.float32).reshape(2, 2, 1)
    assert to_pixel_values(raw, RADAR).ravel().tolist()[0] == 0
    assert to_pixel_values(raw, RADAR).ravel().tolist()[3] == 255
    exact = np.array([[[RADAR.level_255**2 * 1.0001]]])
    assert to_pixel_values(exact, RADAR)[0, 0, 0] == 255
    assert to_pixel_values(exact * 0.999, RADAR)[0, 0, 0] == 254
    with pytest.raises(ValueError, match="must not be negative"):
        to_pixel_values(-raw, RADAR)


def test_tasks_of_both_folders_come_sorted_and_each_has_a_rule(bench):
    names = [task.name for task in geobench_tasks(bench, procedural=True)]
    masked = [name for name, layout in LAYOUTS.items() if layout.kind == "segmentation"]
    assert names == [*sorted(set(LAYOUTS) - set(masked)), *sorted(masked)]
    table = input_rules()
    others = {"eurosat", "ucmerced", "m-so2sat, radar"}
    others |= {f"{name}, 12 bands" for name in TWELVE_BAND_RULES}
    assert {*LAYOUTS, *others} == set(table.index)
    assert set(RULES) >= set(LAYOUTS)
    assert RULES["m-cashew-plant"].native_gsd_m == 10 != LAYOUTS["m-cashew-plant"].gsd_m
    assert "0.5 m" in table.loc["m-cashew-plant", "why"]


def test_a_model_without_tokens_is_refused_for_segmentation(bench):
    task = geobench_task(folder_of(bench, "m-nz-cattle"), procedural=True)
    blank = Candidate(model=Blank(), sensor="lores", trained=False)
    with pytest.raises(ValueError, match="tokens=True, which Blank does not"):
        evaluate({"blank": blank}, [task], image_px=32, seed=0)


class Blank:
    """An encoder that sees nothing."""

    def embed(self, images, *, sensor, gsd_m):
        return images.float().mean((2, 3))


def test_confused_band_names_are_put_right(tmp_path):
    """Cirrus is the dark band."""
    sizes = {"train": 2, "valid": 1, "test": 1, "processes": 1}
    folder = write_geobench(tmp_path / "g", seed=7, tasks=("m-eurosat",), **sizes)
    task = folder / "classification_v1.0" / "m-eurosat"
    (cirrus, _), *_ = raw_samples(task, "train", ("10 - SWIR - Cirrus",))
    assert cirrus.mean() < 60


def test_mixed_sizes_and_unknown_bands_are_named(bench):
    folder = folder_of(bench, "m-NeonTree")
    (hyper, _), *_ = raw_samples(folder, "test", ("CHM", "Neon"))
    assert hyper.shape == (2, 3, 370)
    with pytest.raises(ValueError, match=r"must have one size, got .*20, 30.*2, 3"):
        next(raw_samples(folder, "test", ("red", "CHM")))
    with pytest.raises(ValueError, match="band must be one of m-NeonTree's, got 'B4'"):
        next(raw_samples(folder, "test", ("B4",)))


def test_old_files_without_order_or_georeference_and_under_old_module_names(bench, tmp_path):
    folder = tmp_path / "segmentation_v1.0" / "m-nz-cattle"
    shutil.copytree(folder_of(bench, "m-nz-cattle"), folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("SpectralBand", "SegmentationClasses"):
            patch.setattr(getattr(gb, name), "__module__", "ccb.io.dataset")
        for path in folder.glob("*.hdf5"):
            with h5py.File(path, "r+") as file:
                notes = gb.safe_loads(ast.literal_eval(file.attrs["pickle"]))
                order = notes.pop("bands_order")
                for key in order:
                    del notes[key]["transform"], notes[key]["crs"]
                old = pickle.dumps(notes)
                assert b"ccb.io.dataset" in old
                file.attrs["pickle"] = str(old)
        specs = load_task_specs(folder)
        (folder / "task_specs.pkl").write_bytes(pickle.dumps(specs))
        assert b"ccb.io.dataset" in (folder / "task_specs.pkl").read_bytes()
    ours = raw_samples(folder, "train", RGB)
    assert_equal(ours, by_geobench(folder, "train", RGB))
    assert describe(folder).class_names == ("no cattle", "cattle")


def test_a_band_at_several_dates_is_refused(bench, tmp_path):
    folder = tmp_path / "m-nz-cattle"
    shutil.copytree(folder_of(bench, "m-nz-cattle"), folder)
    path = folder / f"{sample_names(folder)['test'][0]}.hdf5"
    with h5py.File(path, "r+") as file:
        notes = gb.safe_loads(ast.literal_eval(file.attrs["pickle"]))
        first = next(key for key in notes if key.startswith("Red"))
        notes["Red_1999-01-01"] = notes[first]
        file["Red_1999-01-01"] = file[first][()]
        file.attrs["pickle"] = str(pickle.dumps(notes))
    with pytest.raises(ValueError, match=r"holds once, got 'Red', which it holds 2 times"):
        next(raw_samples(folder, "test", RGB))


def test_geobench_own_folder_and_environment_have_no_part(bench, tmp_path):
    code = (
        "import os, sys\n"
        "from salib.evaluate import geobench_tasks\n"
        "from salib.evaluate.tasks.task import iter_split\n"
        "tasks = geobench_tasks(sys.argv[1], procedural=True)\n"
        "print(len(tasks), len(list(iter_split(tasks[0], 'test'))), os.environ['GEO_BENCH_DIR'])"
    )
    absent = tmp_path / "absent"
    home = tmp_path / "home"
    home.mkdir()
    env = {**os.environ, "GEO_BENCH_DIR": str(absent), "HOME": str(home)}
    command = [sys.executable, "-W", "ignore", "-c", code, str(bench)]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["12", "1", str(absent)]
    assert not absent.exists()
    assert not (home / "dataset").exists()


class Runs:
    """Unpickling this with pickle.loads would make a file."""

    def __init__(self, call, *arguments):
        self.call, self.arguments = call, arguments

    def __reduce__(self):
        return self.call, self.arguments


def _attacks(proof):
    command = f"open({str(proof)!r}, 'w').close()"
    yield "os.system", Runs(os.system, f"touch {proof}")
    yield "builtins.exec", Runs(exec, command)
    yield "builtins.eval in a label", {"label": Runs(eval, f"open({str(proof)!r}, 'w')")}
    hidden = np.empty(1, object)
    hidden[0] = Runs(os.system, f"touch {proof}")
    yield "an object array", {"label": hidden}
    yield "subprocess.Popen", {"bands_order": [Runs(subprocess.Popen, ["touch", str(proof)])]}


@pytest.mark.parametrize("which", range(5))
@pytest.mark.parametrize("where", ["task_specs.pkl", "sample"])
def test_no_pickle_in_a_data_file_runs_anything(tmp_path, where, which):
    folder = write_task(tmp_path / "bench", [0, 1, 0, 1], Classification(2, ["a", "b"]))
    proof = tmp_path / "ran"
    _, attack = list(_attacks(proof))[which]
    if where == "sample":
        with h5py.File(folder / "id_0.hdf5", "r+") as file:
            file.attrs["pickle"] = str(pickle.dumps(attack))
    else:
        (folder / where).write_bytes(pickle.dumps(attack))
    with pytest.raises(ValueError, match="must be a readable GEO-Bench file, got UnsafePickle"):
        read_split(geobench_task(folder, procedural=True), "train")
    assert not proof.exists()


@pytest.mark.parametrize("where", ["task_specs.pkl", "sample"])
def test_a_geobench_that_would_run_code_is_refused_before_it_reads(tmp_path, monkeypatch, where):
    folder = write_task(tmp_path / "bench", [0, 1, 0, 1], Classification(2, ["a", "b"]))
    proof = tmp_path / "ran"
    attack = pickle.dumps(Runs(os.system, f"touch {proof}"))
    task = geobench_task(folder, procedural=True)
    if where == "sample":
        with h5py.File(folder / "id_0.hdf5", "r+") as file:
            file.attrs["pickle"] = str(attack)
    else:
        (folder / where).write_bytes(attack)
    for module in (gb, sys.modules["geobench.task"]):
        monkeypatch.setattr(module, "safe_load", pickle.load, raising=False)
        monkeypatch.setattr(module, "safe_loads", pickle.loads, raising=False)
    monkeypatch.setitem(sys.modules, "geobench._safe_pickle", None)
    for read in (lambda: describe(folder), lambda: read_split(task, "train")):
        with pytest.raises(ValueError, match=r"geobench must be 1\.1\.0 or newer, got"):
            read()
    assert not proof.exists()


@pytest.mark.parametrize(
    "text", ["", "1", "b'x'", "[" * 100_000, "b''", "__import__('os').getcwd()", "{'label': 0}"]
)
def test_a_note_that_is_no_pickle_gives_one_clear_error(tmp_path, text):
    folder = write_task(tmp_path, [0, 1, 0], Classification(2, ["a", "b"]))
    with h5py.File(folder / "id_0.hdf5", "r+") as file:
        del file.attrs["pickle"]
        file.create_dataset("note", data=1)
        file.attrs.create("pickle", text[:60_000])
    with pytest.raises(ValueError, match=r"id_0\.hdf5 must be a readable GEO-Bench file"):
        read_split(geobench_task(folder, procedural=True), "train")


def test_a_missing_split_a_cut_file_and_a_missing_band_are_named(tmp_path):
    folder = write_task(tmp_path, [0, 1, 0, 1], Classification(2, ["a", "b"]))
    partition = folder / "default_partition.json"
    names = json.loads(partition.read_text())
    partition.write_text(json.dumps({**names, "valid": []}))
    with pytest.raises(ValueError, match=r"must name samples of \['valid'\], got none"):
        geobench_task(folder, procedural=True)
    partition.write_text(json.dumps(names))
    task = geobench_task(folder, procedural=True)
    with pytest.raises(ValueError, match=r"split must be one of .*'val'"):
        read_split(task, "val")
    with h5py.File(folder / "id_0.hdf5", "r+") as file:
        notes = gb.safe_loads(ast.literal_eval(file.attrs["pickle"]))
        del notes["Green"]
        file.attrs["pickle"] = str(pickle.dumps(notes))
    with pytest.raises(ValueError, match=r"one that .*id_0\.hdf5 holds once, got 'Green'"):
        read_split(task, "train")
    whole = (folder / "id_1.hdf5").read_bytes()
    for share in (0.02, 0.5, 0.99):
        (folder / "id_0.hdf5").write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(ValueError, match=r"id_0\.hdf5 must be a readable"):
            read_split(task, "train")


def test_values_that_are_not_finite_are_named_and_constant_bands_pass(tmp_path):
    two = Classification(2, ["a", "b"])
    bad = np.full((3, HEIGHT, WIDTH), 7.0)
    bad[1, 2, 3] = np.nan
    task = geobench_task(write_task(tmp_path / "a", [0, 1, 0], two, data=bad), procedural=True)
    with pytest.raises(ValueError, match="finite, got NaN or infinity in item 0 of m-pv4ger"):
        read_split(task, "train")
    flat = np.full((3, HEIGHT, WIDTH), 7.0)
    task = geobench_task(write_task(tmp_path / "b", [0, 1, 0], two, data=flat), procedural=True)
    (image,), _ = read_split(task, "train")
    assert (image == 7).all()


def test_one_sample_a_class_and_a_class_that_no_test_item_has_are_read_as_they_are(tmp_path):
    names = ["a", "b", "c"]
    folder = write_task(tmp_path, [0, 1, 2, 1, 1], Classification(3, names))
    task = geobench_task(folder, procedural=True)
    assert read_split(task, "train")[1].tolist() == [0, 1, 2]
    assert read_split(task, "test")[1].tolist() == [1]
    assert task.class_names == tuple(names)


def masks(*values):
    return [np.full((HEIGHT, WIDTH), value, np.uint8) for value in values]


@pytest.mark.parametrize(
    ("labels", "label_type", "message"),
    [
        ([0, 2, 1], Classification(2), None),
        ([3, 0, 1], Classification(3), "must be 0 to 2, got 3 to 3"),
        ([-1, 0, 1], Classification(3), "must be 0 to 2, got -1"),
        ([0.5, 0, 1], Classification(3), "must hold class numbers"),
        (["a", 0, 1], Classification(3), "must hold class numbers"),
        ([np.array([0, 1]), 0, 1], Classification(3), r"0 axes .* got shape \(2,\)"),
        ([np.array([0, 2, 0]), 0, 0], MultiLabelClassification(3), "must be 0 to 1, got 0 to 2"),
        ([np.array([0, 1]), 0, 0], MultiLabelClassification(3), r"for 3 classes, got shape \(2,\)"),
        (masks(4, 0, 0), SegmentationClasses("label", 0.1, 3), "must be 0 to 2, got 4 to 4"),
        (
            [np.zeros((HEIGHT, 2), np.uint8), *masks(0, 0)],
            SegmentationClasses("label", 0.1, 3),
            r"must be \(20, 30\) as its image, got \(20, 2\)",
        ),
    ],
)
def test_labels_that_do_not_fit_the_task_are_named(tmp_path, labels, label_type, message):
    task = geobench_task(write_task(tmp_path, labels, label_type), procedural=True)
    if message is None:
        assert read_split(task, "train")[1].tolist() == labels[:1]
        return
    with pytest.raises(ValueError, match=message):
        read_split(task, "train")


def test_specifications_of_another_kind_are_refused(tmp_path):
    folder = write_task(tmp_path, [0, 1, 0], Classification(2))
    specs = load_task_specs(folder)
    specs.label_type = gb_label.Detection()
    specs.save(str(folder), overwrite=True)
    with pytest.raises(ValueError, match=r"task_specs\.pkl must be a readable .*Detection"):
        geobench_task(folder, procedural=True)


@pytest.mark.real
@REAL
@pytest.mark.parametrize("name", ["m-eurosat", "m-SA-crop-type"])
def test_published_samples_equal_geobench_own(name):
    root = Path(os.environ["SALIB_DATA_DIR"]) / "geobench_real"
    (task,) = [t for t in geobench_tasks(root, procedural=False) if t.name == name]
    assert_equal(raw_samples(task.path, "test", RGB), by_geobench(task.path, "test", RGB))
    for band in describe(task.path).bands:
        stored = STORED_AS.get(name, {}).get(band, band)
        theirs = by_geobench(task.path, "test", (stored,))
        assert_equal(raw_samples(task.path, "test", (band,)), theirs)
    images, labels = read_split(task, "test")
    assert len(images) == len(labels) == 5
    if name == "m-eurosat":
        (cirrus, _), *_ = raw_samples(task.path, "test", ("10 - SWIR - Cirrus",))
        assert cirrus.mean() < 60
        return
    assert task.kind == "segmentation"
    assert labels.shape == (5, 256, 256)
    assert 40 < np.median(np.stack(images)) < 220
