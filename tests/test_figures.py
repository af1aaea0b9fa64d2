"""Drawings carry the data they were given, in either ink, and touch nothing else."""

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
import torch
from matplotlib import _pylab_helpers
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from exhibits import figures
from exhibits.figures.style import OTHER
from salib.config import SENSOR_NAMES, SENSORS

RNG = np.random.default_rng(5)


def image(height, width, bands=3):
    return RNG.integers(0, 256, (height, width, bands), dtype=np.uint8)


def shown(figure):
    """The arrays of all images that a figure shows, in the order of its axes."""
    found = [axis.get_images() for axis in figure.axes]
    return [np.asarray(one.get_array()) for images in found for one in images]


def texts(figure):
    return [text.get_text() for axis in figure.axes for text in axis.texts]


def triple(title):
    return {
        "radar": image(11, 13, 2),
        "lores": image(11, 13),
        "hires": image(11, 13),
        "hires4x": image(22, 26),
        "title": title,
    }


def table(models=("first", "second", "third")):
    rows = [
        {"task": task, "model": model, "probe": "knn", "value": value, "procedural": task == "a"}
        for task in ("a", "b", "c")
        for model, value in zip(models, (0.31, 0.47, 0.59), strict=True)
    ]
    rows += [
        {"task": task, "model": "majority class", "probe": "none", "value": 0.17}
        for task in ("a", "b", "c")
    ]
    frame = pd.DataFrame(rows)
    return frame.assign(ci_low=frame["value"] - 0.05, ci_high=frame["value"] + 0.03)


def index(places=37):
    frame = pd.DataFrame({"gsd_m": RNG.uniform(3, 4, places), "split": ["train"] * places})
    frame.loc[::5, "split"] = "valid"
    for day, name in enumerate(SENSOR_NAMES):
        frame[f"valid_frac_{name}"] = RNG.uniform(0.95, 1, places)
        frame[f"datetime_{name}"] = pd.Timestamp(f"2023-06-0{day + 1}T11:00:00Z")
    return frame


def logs():
    steps = np.arange(53)
    return {
        name: pd.DataFrame({"step": steps, "contrastive": fall, "reconstruction": fall + 1})
        for name, fall in (("one", 5 - steps / 53), ("other", 4 - steps / 53))
    }


def numbers():
    """Accuracies of one task from two sources, and of simulated clusters."""
    points = {"task": "a", "source": ["torchgeo-bench", "the paper"], "model": "m", "value": 0.3}
    runs = {"task": "a", "known": 0.5, "classes": 3, "accuracy": RNG.uniform(size=53)}
    entries = {"task": "a", "probe": ["k-Means"], "model": "m", "value": 0.3}
    return pd.DataFrame(points), pd.DataFrame(runs), pd.DataFrame(entries)


def every_drawing():
    return {
        "anchor_points": lambda: figures.anchor_points(numbers()[0], {"m": "named"}),
        "chance": lambda: figures.chance(*numbers()[1:]),
        "figure1": figures.figure1,
        "figure2": lambda: figures.figure2(-np.arange(64.0, dtype=np.float32).reshape(4, 16)),
        "figure3": lambda: figures.figure3([triple("here")]),
        "montage": lambda: figures.montage([("forest", np.stack([image(7, 7)] * 3), None)]),
        "gallery": lambda: figures.gallery({"one": image(5, 7)}),
        "distributions": lambda: figures.distributions(index()),
        "cover_map": lambda: figures.cover_map(footprints()),
        "loss_curves": lambda: figures.loss_curves(logs()),
        "training_signs": lambda: figures.training_signs(signs()),
        "table2_intervals": lambda: figures.table2_intervals(table()),
        "slopes_and_reach": lambda: figures.slopes_and_reach(
            {"ALiBi": np.geomspace(1, 9, 5)}, 64.0
        ),
    }


@pytest.mark.parametrize("name", every_drawing())
def test_a_drawing_is_a_figure_with_text_in_the_current_ink(name):
    ink = "#e6edf3"
    with mpl.rc_context({"text.color": ink, "axes.labelcolor": ink, "xtick.color": ink}):
        figure = every_drawing()[name]()
    assert isinstance(figure, Figure)
    labels = [text for axis in figure.axes for text in (axis.title, axis.xaxis.label)]
    assert {text.get_color() for text in labels if text.get_text()} <= {ink}


@pytest.mark.parametrize("name", every_drawing())
def test_a_drawing_leaves_no_figure_open_and_no_setting_changed(name):
    before = dict(mpl.rcParams)
    every_drawing()[name]()
    assert not _pylab_helpers.Gcf.get_all_fig_managers()
    assert dict(mpl.rcParams) == before


def test_figure1_names_every_part_of_the_text():
    said = " ".join(texts(figures.figure1())).replace("-\n", "-")
    for part in ("radar", "lores", "hires", "Eq. (3)", "Eqs. (4)-(5)", "decoder"):
        assert part in said
    assert said.count("mask") == len(SENSOR_NAMES)
    assert said.count("cross-encoder") == 2
    assert said.count("E_{") == 3


def test_figure2_shows_the_bias_and_prints_its_distances():
    bias = -RNG.uniform(0.1, 2, (4, 16)).astype(np.float32)
    figure = figures.figure2(torch.from_numpy(bias))
    matrix = figure.axes[2]
    assert np.array_equal(shown(figure)[2], bias)
    assert [t.get_text() for t in matrix.texts] == [f"{-value:.2f}" for value in bias.flat]
    numbers = [[int(t.get_text()) for t in axis.texts] for axis in figure.axes[:2]]
    assert numbers == [list(range(1, 5)), list(range(1, 17))]


def test_false_colour_leaves_red_empty_and_keeps_vv_and_vh():
    radar = image(5, 7, 2)
    colour = figures.false_colour(radar)
    assert not colour[..., 0].any()
    assert np.array_equal(colour[..., 1:], radar)


def test_picture_paints_over_hidden_patches_and_leaves_the_rest():
    levels = torch.randint(0, 256, (3, 6, 10), generator=torch.Generator().manual_seed(1)).float()
    hidden = torch.tensor([[True, False], [False, False], [False, True]])
    found = figures.picture(levels, hidden)
    for row in range(6):
        for col in range(10):
            if hidden[row // 2, col // 5]:
                assert len(set(found[row, col])) == 1
            else:
                assert found[row, col].tolist() == levels[:, row, col].tolist()
    assert not figures.picture(levels[:2])[..., 0].any()
    twelve = np.arange(12, dtype=np.uint16)[:, None, None] * 200 * np.ones((12, 2, 5), np.uint16)
    red_green_blue = [17 * band for band in (3, 2, 1)]
    assert (figures.picture(twelve) == red_green_blue).all()


def test_figure3_shows_each_sample_in_the_columns_of_the_paper():
    triples = [triple("east"), triple("west")]
    figure = figures.figure3(triples)
    assert len(figure.axes) == 8
    heads = [axis.get_title() for axis in figure.axes[:4]]
    assert heads == ["sar", "low res", "hi res", "hi 4x"]
    expected = [
        figures.false_colour(t[name]) if name == "radar" else t[name]
        for t in triples
        for name in ("radar", "lores", "hires", "hires4x")
    ]
    assert all(np.array_equal(a, b) for a, b in zip(shown(figure), expected, strict=True))
    assert [figure.axes[i].get_ylabel() for i in (0, 4)] == ["east", "west"]


def test_montage_shows_every_chip_apart_and_real_ones_only_where_given():
    made, real = np.stack([image(16, 17) for _ in range(3)]), np.stack([image(16, 17)] * 2)
    strips = shown(figures.montage([("forest", made, real), ("kiln", made, None)]))
    assert len(strips) == 3
    for strip, chips in zip(strips, (made, real, made), strict=True):
        gap = strip[..., 3] == 0
        assert gap.all(axis=0).sum() == len(chips) - 1
        assert np.array_equal(strip[:, :17, :3], chips[0])
        assert np.array_equal(strip[:, -17:, :3], chips[-1])


def test_gallery_shows_pictures_and_masks_as_given():
    pictures = {"picture": image(5, 7), "mask": RNG.random((3, 11)) > 0.5}
    figure = figures.gallery(pictures)
    found = shown(figure)
    assert np.array_equal(found[0], pictures["picture"])
    assert np.array_equal(found[1].astype(bool), pictures["mask"])
    assert [axis.get_title() for axis in figure.axes] == list(pictures)


def footprints():
    """A used and a spare scene per sensor, and a sample of each split."""
    ring = [(-98.0, 38.0), (-97.0, 38.0), (-97.0, 39.0), (-98.0, 38.0)]
    ground = {"type": "Polygon", "coordinates": [ring]}
    scenes = [{"sensor": name, "used": used} for name in SENSOR_NAMES for used in (True, False)]
    layers = {"scenes": scenes, "samples": [{"split": "train"}, {"split": "valid"}]}
    drawn = {
        name: [{"geometry": ground, "properties": about} for about in of]
        for name, of in layers.items()
    }
    collections = {n: {"type": "FeatureCollection", "features": of} for n, of in drawn.items()}
    return {"tiles": dict.fromkeys(SENSOR_NAMES), **collections}


def test_the_cover_map_draws_each_scene_once_and_says_how_many_were_taken():
    for axis, name in zip(figures.cover_map(footprints()).axes, SENSOR_NAMES, strict=True):
        assert axis.get_title() == f"{name}: 1 of 2 scenes"
        assert [len(drawn.get_paths()) for drawn in axis.collections] == [2, 2]
        colours = [to_hex(colour) for colour in axis.collections[1].get_edgecolor()]
        assert colours == [OTHER, SENSORS[name].colour]  # those that were taken on top


def test_distributions_count_every_sample_once_a_panel():
    rows = index()
    ground, valid, dates = figures.distributions(rows).axes
    assert sum(patch.get_height() for patch in ground.patches) == len(rows)
    for name, points in zip(SENSOR_NAMES, valid.collections, strict=True):
        x = points.get_offsets()[:, 0]
        assert np.allclose(np.asarray(x), 100 * rows[f"valid_frac_{name}"])
    assert [len(points.get_offsets()) for points in dates.collections] == [len(rows)] * 3


def test_loss_curves_lay_a_smooth_line_over_the_raw_losses():
    given = logs()
    figure = figures.loss_curves(given)
    for axis, loss in zip(figure.axes, ("contrastive", "reconstruction"), strict=True):
        raw, smooth = axis.lines[::2], axis.lines[1::2]
        for line, average, log in zip(raw, smooth, given.values(), strict=True):
            values = log[loss].to_numpy()
            assert np.array_equal(line.get_ydata(), values)
            inner = [values[i - 10 : i + 11].mean() for i in range(10, len(values) - 10)]
            assert np.asarray(average.get_ydata())[10:-10] == pytest.approx(inner)


def signs():
    """Ten steps, measured at each second one."""
    log = pd.DataFrame({"step": range(10), "lr": np.linspace(1, 0.1, 10), "gradient": 2.0})
    at = log.step % 2 == 1
    for number, name in enumerate(("recall1_radar_lores", "recall5_radar_lores", "chance1")):
        log[f"valid_{name}"] = (log.step / 10 + number).where(at)
    for name in ("alignment", "uniformity"):
        log[f"valid_{name}"] = (-log.step).where(at)
    return log


def test_signs_of_training_draw_recall_against_chance_where_they_were_measured():
    log = signs()
    retrieval, spread, size = figures.training_signs(log).axes
    drawn = {line.get_label(): line for line in retrieval.lines}
    assert set(drawn) == {"radar to lores", "chance"}
    assert np.array_equal(drawn["radar to lores"].get_xdata(), [1, 3, 5, 7, 9])
    assert np.allclose(drawn["chance"].get_ydata(), [2.1, 2.3, 2.5, 2.7, 2.9])
    assert {line.get_label() for line in spread.lines} == {"alignment", "uniformity"}
    assert len(size.lines[1].get_ydata()) == 10


def test_loss_curves_draw_validation_where_it_was_measured():
    first, second = logs().values()
    every = first.index % 3 == 2
    first["valid_contrastive"] = first.contrastive.where(every) + 1
    first["valid_reconstruction"] = first.reconstruction.where(every) + 2
    figure = figures.loss_curves({"a": first, "b": second})
    for axis, loss in zip(figure.axes, ("contrastive", "reconstruction"), strict=True):
        drawn = {line.get_label(): line for line in axis.lines}
        assert "b, validation" not in drawn
        dots = drawn["a, validation"]
        assert dots.get_color() == drawn["a"].get_color()
        assert np.array_equal(dots.get_xdata(), first.step[every])
        assert np.array_equal(dots.get_ydata(), first[f"valid_{loss}"][every])


def test_table2_intervals_put_each_value_inside_its_interval_in_per_cent():
    rows = table()
    figure = figures.table2_intervals(rows)
    drawn = [axis for axis in figure.axes if axis.get_visible()]
    assert [axis.get_title() for axis in drawn] == ["a (procedural)", "b", "c"]
    for axis in drawn:
        bars, dots = axis.lines[0:6:2], axis.lines[1:6:2]
        for bar, dot, value in zip(bars, dots, (0.31, 0.47, 0.59), strict=True):
            ends = [100 * (value - 0.05), 100 * (value + 0.03)]
            assert list(bar.get_xdata()) == pytest.approx(ends)
            assert list(dot.get_xdata()) == pytest.approx([100 * value])
        assert axis.lines[6].get_xdata()[0] == pytest.approx(17)


def test_bias_maps_share_one_colour_scale():
    bias = -RNG.uniform(0, 5, (3, 7, 11)).astype(np.float32)
    slopes = np.array([0.5, 0.25, 0.125], np.float32)
    figure = figures.bias_maps(bias, slopes, np.array([3.0, 5.0], np.float32), 100.0)
    images = [one for axis in figure.axes for one in axis.get_images()]
    drawn = [one for one in images if isinstance(one, AxesImage) and one.get_array().shape[1] == 11]
    assert all(np.array_equal(one.get_array(), head) for one, head in zip(drawn, bias, strict=True))
    assert len({one.get_clim() for one in drawn}) == 1


def test_slopes_and_reach_draws_the_radius_of_each_slope():
    slopes = np.array([0.5, 0.125, 2.0])
    left, right = figures.slopes_and_reach({"set": slopes}, 64.0).axes
    assert np.array_equal(left.lines[0].get_ydata(), slopes)
    assert list(right.lines[0].get_ydata()) == [128.0, 512.0, 32.0]


def test_heads_against_draws_a_line_a_head_in_tokens_and_in_metres():
    slopes = [*np.geomspace(0.5, 0.01, 11), 0.0]
    rows = pd.DataFrame(
        [
            {"gsd_m": gsd, "side": 8, "slope": slope, "tokens": 60 - gsd, "metres": gsd * 7}
            for gsd in (1.0, 3.0, 50.0)
            for slope in slopes
        ]
    )
    tokens, metres = figures.heads_against(rows, "gsd_m").axes
    for axis, values in ((tokens, [59, 57, 10]), (metres, [7, 21, 350])):
        assert len(axis.lines) == len(slopes)
        for line in axis.lines:
            assert line.get_xdata().tolist() == [1, 3, 50]
            assert line.get_ydata().tolist() == values
    assert metres.get_legend().get_texts()[-1].get_text() == "none"


def test_attended_keys_counts_every_query():
    keys = {"product": RNG.uniform(1, 2, 211), "division": RNG.uniform(100, 200, 211)}
    axis = figures.attended_keys(keys, 256).axes[0]
    assert sum(patch.get_height() for patch in axis.patches) == 2 * 211


def test_against_distance_draws_every_pair_in_every_panel():
    distance = RNG.uniform(0, 99, (7, 11))
    bias = {"ours": -distance, "theirs": RNG.normal(size=(7, 11))}
    figure = figures.against_distance(distance, bias)
    for axis, values in zip(figure.axes, bias.values(), strict=True):
        offsets = axis.collections[0].get_offsets()
        assert np.allclose(
            np.asarray(offsets), np.stack([distance, values], axis=-1).reshape(-1, 2)
        )


@pytest.mark.parametrize(
    "draw",
    [
        lambda: figures.figure3([]),
        lambda: figures.montage([]),
        lambda: figures.gallery({}),
        lambda: figures.chance(pd.DataFrame(columns=["task", "known"]), pd.DataFrame()),
    ],
)
def test_nothing_to_draw_is_an_error(draw):
    with pytest.raises(ValueError, match="must be a positive integer"):
        draw()


def test_attention_cost_draws_each_case_in_order_of_tokens_with_one_colour():
    times = pd.DataFrame(
        {"case": ["a", "a", "b", "b"], "tokens": [9, 4, 4, 9], "wall_s": [3, 1, 2, 5]}
    )
    memory = times.rename(columns={"wall_s": "peak_mib"}).assign(case=["b", "b", "c", "c"])
    left, right = figures.attention_cost(times, memory).axes
    found = {line.get_label(): line for line in left.lines}
    assert found["a"].get_xydata().tolist() == [[4, 1], [9, 3]]
    again = {line.get_label(): line for line in right.lines}
    assert list(again) == ["b", "c"]
    assert again["b"].get_color() == found["b"].get_color() != found["a"].get_color()
