"""What an encoder is shown of a task: paired views, right bands and metres, nobody's neighbours."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from geobench.task import load_task_specs

from earth import write_geobench
from salib import build_model, preset
from salib.config import SENSORS, BandStats, plain_stats
from salib.evaluate import PROTOCOLS, Candidate, columns, evaluate, find_tasks
from salib.evaluate.columns import baselines, embed_split
from salib.evaluate.croma import PublishedCroma, train_stats, with_task_stats
from salib.evaluate.features import embed
from salib.evaluate.probes.data import Prediction, standardise
from salib.evaluate.probes.table import PROBES
from salib.evaluate.tasks.inputs import to_input
from salib.evaluate.tasks.task import iter_split

SMALL = replace(preset("tiny"), dim=16, depth=2, heads=2, decoder_dim=16, decoder_heads=2)
CROMA = replace(SMALL, sensors=("radar", "s2"), position="patches")
QUICK = replace(
    PROTOCOLS["default"],
    probes=("knn", "linear", "neural", "kmeans"),
    knn_k=3,
    hidden=8,
    epochs=2,
    resamples=20,
)
SIZES = {"train": 23, "valid": 7, "test": 11}
VV_VH = ("06 - VV.LEE Filtered", "05 - VH.LEE Filtered")
GPU = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device is at hand")


@pytest.fixture(scope="module")
def task(tmp_path_factory):
    out = tmp_path_factory.mktemp("bench") / "geobench"
    bench = write_geobench(out, seed=5, tasks=("m-so2sat",), processes=1, **SIZES)
    return find_tasks(geobench=bench, procedural=True)[0]


@pytest.fixture(scope="module")
def model():
    return build_model(SMALL, 0).eval()


def published(seed=0):
    """CROMA as published: 12 optical bands, each already standardised."""
    levels = (plain_stats(bands=2), plain_stats(bands=12))
    return PublishedCroma(build_model(replace(CROMA, band_stats=levels), seed).eval())


class Means(torch.nn.Module):
    """Mean of each band of each view, its side, and its metres a pixel, in the order given."""

    def embed(self, images, *, gsd_m, sensor=None):
        images, gsd_m = (one if isinstance(one, dict) else {sensor: one} for one in (images, gsd_m))
        parts = []
        for name, view in images.items():
            side = torch.full((len(view), 1), view.shape[-1])
            parts += [view.double().mean((2, 3)), side, gsd_m[name][:, None]]
        return torch.cat(parts, 1).float()


def stored(task, split):
    """Mean levels of VV, VH, red, green, blue of each item, and its class, by geobench's reader."""
    data = load_task_specs(task.path).get_dataset(split)
    for number in range(len(data)):
        radar, _ = data[number].pack_to_3d(list(VV_VH))
        colours, _ = data[number].pack_to_3d(["04 - Red", "03 - Green", "02 - Blue"])
        dn = 597 * np.sqrt(radar.astype(np.float64))
        levels = np.rint(np.clip(colours.astype(np.float64) * (255 / 0.275), 0, 255))
        both = np.concatenate([np.minimum(np.floor(dn * 256 / 1000), 255), levels], axis=2)
        yield both.mean((0, 1)), data[number].label


@pytest.mark.parametrize("at_once", [4, 256])
def test_views_of_an_item_and_its_label_stay_together_from_the_file_on(task, monkeypatch, at_once):
    """VV then VH, red then blue; hires twice the side at half the metres; in the file's order."""
    monkeypatch.setattr(columns, "BATCH", at_once)
    joint = Candidate(model=Means(), sensor="joint")
    apart = {name: Candidate(model=Means(), sensor=name) for name in ("radar", "lores")}
    for split, count in SIZES.items():
        found = embed_split(task, split, {"joint": joint, **apart}, image_px=32)
        expected, labels = zip(*stored(task, split), strict=True)
        means = np.array(expected)
        assert found.labels.tolist() == list(labels)
        vectors = found.features["joint"]
        assert len(vectors) == count
        np.testing.assert_allclose(vectors[:, :2], means[:, :2], rtol=1e-5)
        np.testing.assert_allclose(vectors[:, 4:7], means[:, 2:], rtol=1e-5)
        # Bicubic enlargement rounds and clips levels; their mean hardly moves.
        np.testing.assert_allclose(vectors[:, 9:12], means[:, 2:], atol=1.0)
        sides = vectors[:, [2, 3, 7, 8, 12, 13]]
        assert (sides == [32, 10, 32, 10, 64, 5]).all()
        np.testing.assert_array_equal(found.features["radar"], vectors[:, :4])
        np.testing.assert_array_equal(found.features["lores"], vectors[:, 4:9])
        assert found.gsd_m == dict.fromkeys(("joint", "radar", "lores"), 10.0)
    assert means[:, 0].mean() > 2 * means[:, 1].mean()  # VV is the brighter of the two
    assert SENSORS["radar"].bands == ("VV", "VH")


@pytest.mark.parametrize("raw", [False, True])
def test_probes_are_given_z_scored_features_and_no_label_of_a_test_item(task, monkeypatch, raw):
    given = []

    def spy(data, setting):
        given.append(data)
        return Prediction(np.zeros((len(data.test), data.n_classes), np.float32))

    monkeypatch.setattr(
        "salib.evaluate.run.PROBES", {"knn": PROBES["knn"]._replace(run=spy, raw=raw)}
    )
    one = {"CROMA": Candidate(model=Means(), sensor="lores", trained=False)}
    evaluate(one, [task], protocol=QUICK, image_px=32, seed=0)
    splits = [embed_split(task, split, one | baselines(0), image_px=32) for split in SIZES]
    for data, column in zip(given, splits[0].features, strict=True):
        features = [split.features[column] for split in splits]
        features = features if raw else standardise(*features)
        for ours, expected in zip((data.train, data.valid, data.test), features, strict=True):
            np.testing.assert_array_equal(ours, expected)
        np.testing.assert_array_equal(data.train_labels, splits[0].labels)
        np.testing.assert_array_equal(data.valid_labels, splits[1].labels)


def shown(task):
    """Test images by sensor, 16 px a side and 32 of hires, and their metres a pixel."""
    images, gsd_m = {}, {}
    for name, side in (("radar", 16), ("lores", 16), ("hires", 32)):
        levels = (image for image, _ in iter_split(task, "test", modality=SENSORS[name].modality))
        pairs = [to_input(image, native_gsd_m=10.0, image_px=side) for image in levels]
        images[name] = np.stack([image for image, _ in pairs])
        gsd_m[name] = np.full(len(pairs), 320 / side)
    return images, gsd_m


def test_a_joint_vector_is_the_models_own_of_the_three_views_of_its_item(task, model):
    encoder = Candidate(model=model, sensor="joint")
    found = embed_split(task, "test", {"SA-joint": encoder}, image_px=16)
    images, gsd_m = shown(task)
    for number, vector in enumerate(found.features["SA-joint"]):
        views = {n: torch.from_numpy(v[[number]]).permute(0, 3, 1, 2) for n, v in images.items()}
        alone = model.embed(views, gsd_m={n: float(m[number]) for n, m in gsd_m.items()})[0]
        np.testing.assert_allclose(vector, alone.numpy(), atol=1e-5)


@pytest.mark.parametrize("moved", ["radar", "lores", "hires"])
def test_views_that_are_paired_wrongly_give_other_vectors(task, model, moved):
    images, gsd_m = shown(task)
    right = embed(model, images, gsd_m=gsd_m)
    wrong = embed(model, images | {moved: np.roll(images[moved], 1, axis=0)}, gsd_m=gsd_m)
    assert (np.abs(right - wrong).max(axis=1) > 1e-4).all()


def test_published_weights_see_the_colours_of_the_tasks_train_split_alone(task):
    pixels = np.concatenate(
        [image.reshape(-1, 3) for image, _ in iter_split(task, "train")]
    ).astype(np.float64)
    colours = train_stats(task, "lores")
    np.testing.assert_allclose(colours.mean, pixels.mean(0), rtol=1e-9)
    np.testing.assert_allclose(colours.std, pixels.std(0), rtol=1e-9)
    encoder = Candidate(model=published(), sensor="lores")
    fitted = with_task_stats({"one": encoder}, task)["one"].model
    assert fitted.stats["lores"] == colours
    assert encoder.model.stats["lores"] != colours  # what was given is left as it was


def test_published_weights_get_mean_less_and_plus_two_deviations_as_0_and_1():
    class Bands(torch.nn.Module):
        def embed(self, bands, sensor, gsd_m):
            return bands

    mean, std = torch.tensor([90.0, 100.0, 110.0]), torch.tensor([10.0, 20.0, 30.0])
    ends = mean + torch.tensor([[-2.0], [-1.0], [0.0], [2.0], [5.0]]) * std
    colours = BandStats(mean=tuple(mean.tolist()), std=tuple(std.tolist()))
    images = ends[:, :, None, None].expand(-1, -1, 8, 8)
    seen = PublishedCroma(Bands(), {"lores": colours}).embed(
        images, sensor="lores", gsd_m=torch.ones(5)
    )
    expected = torch.tensor([0.0, 0.25, 0.5, 1.0, 1.0])[:, None].expand(-1, 3)
    torch.testing.assert_close(seen[:, [3, 2, 1], 0, 0], expected)


def test_a_column_is_bitwise_the_same_alone_and_beside_any_others(task, tmp_path):
    """Features and rows of each model, of two of one kind and of published weights among them."""
    levels = tuple(
        BandStats(mean=(90.0 + n,) * len(SENSORS[s].bands), std=(40.0,) * len(SENSORS[s].bands))
        for n, s in enumerate(SMALL.sensors)
    )
    other = build_model(replace(SMALL, band_stats=levels), 3).eval()
    every = {
        "SA-low": Candidate(model=other, sensor="lores"),
        "SA-high": Candidate(model=other, sensor="hires"),
        "CROMA published": Candidate(model=published(1), sensor="lores"),
        "SA-joint (b)": Candidate(model=build_model(SMALL, 1).eval(), sensor="joint"),
        "untrained": Candidate(model=build_model(SMALL, 4).eval(), sensor="radar", trained=False),
    }
    options = {"image_px": 16}
    whole = {"protocol": QUICK, "device": "cpu", "against": "image statistics", "seed": 2} | options
    together = evaluate(every, [task], **whole)
    features = embed_split(task, "test", with_task_stats(every, task), **options).features
    for name, encoder in every.items():
        own = name.removesuffix(" (b)")
        few = {own: encoder} | {"untrained": every["untrained"]}
        alone = evaluate(few, [task], **whole).replace({"model": {own: name}})
        beside = together[together["model"].isin(alone["model"])]
        order = ["model", "probe"]
        pd.testing.assert_frame_equal(
            *(rows.sort_values(order, ignore_index=True) for rows in (alone, beside)),
            check_exact=True,
        )
        found = embed_split(task, "test", with_task_stats(few, task), **options).features[own]
        np.testing.assert_array_equal(found, features[name])


def test_a_column_says_what_it_ran_alone_and_a_model_that_does_not_say_is_unknown(task, model):
    model.attention_used.add("earlier")
    encoders = {
        "means": Candidate(model=Means(), sensor="lores"),
        "small": Candidate(model=model, sensor="lores"),
    }
    found = embed_split(task, "valid", encoders, image_px=16)
    assert found.attention["means"] == {"unknown"}
    assert found.attention["small"] == {"sdpa"}
    large = embed_split(task, "valid", {"large": encoders["small"]}, image_px=96)
    assert large.attention["large"] <= {"sdpa", "fused"}  # 144 keys: fused where it is built


def test_a_device_that_is_not_there_is_refused(task, model, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    encoders = {"CROMA": Candidate(model=model, sensor="lores", trained=False)}
    with pytest.raises(ValueError, match="device must exist, got cuda"):
        evaluate(encoders, [task], image_px=16, seed=0, device="cuda")


@pytest.mark.gpu
@GPU
def test_a_gpu_embeds_and_scores_as_the_cpu_does(task):
    """Vectors within 1e-4, accuracies within two test items."""
    encoders = {
        "SA-joint": Candidate(model=build_model(SMALL, 0).eval(), sensor="joint"),
        "SA-low untrained": Candidate(
            model=build_model(SMALL, 1).eval(), sensor="lores", trained=False
        ),
        "CROMA published": Candidate(model=published(), sensor="lores"),
    }
    options = {"image_px": 16}
    rows, vectors = {}, {}
    for device in ("cpu", "cuda"):
        rows[device] = evaluate(
            encoders, [task], protocol=QUICK, seed=0, precision="float32", device=device, **options
        )
        vectors[device] = embed_split(task, "test", encoders, **options).features
    for name, expected in vectors["cpu"].items():
        np.testing.assert_allclose(vectors["cuda"][name], expected, atol=1e-4)
    apart = (rows["cuda"]["value"] - rows["cpu"]["value"]).abs()
    assert apart.max() <= 2.001 / SIZES["test"]
    assert set(rows["cuda"]["instructions"]) == {torch.cuda.get_device_name()}
