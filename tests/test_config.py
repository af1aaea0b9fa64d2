"""Configurations: what is refused, what comes back, what the paper's preset says."""

import math
from dataclasses import replace

import pytest

from salib.config import PRESETS, TRAINING, BandStats, ModelConfig, preset


def test_the_papers_preset_learns_at_1e_minus_4_not_1e4():
    assert TRAINING["base"].learning_rate == pytest.approx(1e-4)


def test_the_papers_preset_has_the_papers_sizes():
    base = PRESETS["base"]
    assert (base.dim, base.depth, base.heads, base.reference_m) == (768, 12, 16, 64.0)
    assert TRAINING["base"].epochs == 50
    assert TRAINING["base"].steps_for(146_502) == 228_909


def test_epochs_are_counted_in_whole_batches_of_the_data_at_hand_and_steps_stand():
    epochs = replace(TRAINING["tiny"], steps=None, epochs=7, batch=13)
    assert [epochs.steps_for(samples) for samples in (13, 101, 103)] == [7, 54, 55]
    assert epochs.steps_for(1) == 1  # which then draws, and is refused
    assert {replace(epochs, steps=5, epochs=None).steps_for(n) for n in (13, 101)} == {5}


def test_every_preset_has_its_training_and_an_image_that_patches_divide():
    assert PRESETS.keys() == TRAINING.keys()
    for name, config in PRESETS.items():
        assert TRAINING[name].image_px % config.patch_px == 0


def test_json_brings_every_field_back():
    levels = (BandStats(mean=(1.0, 2.0), std=(3.0, 4.0)),) * 2
    config = replace(preset("tiny", kind="croma"), band_stats=levels, slopes=(2.0, 1.0, 0.5, 0.1))
    assert ModelConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"sensors": ("lores", "hires")}, "two or more, radar first"),
        ({"sensors": ("radar",)}, "two or more, radar first"),
        ({"sensors": ("radar", "lores", "lores")}, "two or more, radar first"),
        ({"sensors": ("radar", "hires")}, "one on radar's grid after radar"),
        ({"sensors": ("radar", "lidar")}, "must be of radar, lores, hires, s2, got 'lidar'"),
        ({"position": "sine"}, "position must be one of .* or a function"),
        ({"heads": 5}, "heads must divide"),
        ({"heads": 0}, "heads must be a positive whole number"),
        ({"patch_px": 0}, "patch_px must be a positive whole number"),
        ({"depth": -2}, "depth must be a positive whole number"),
        ({"reference_m": math.nan}, "reference_m must be positive"),
        ({"decoder_dim": 66, "decoder_heads": 2}, "multiple of 4"),
        ({"mask_ratio": 1.0}, "mask_ratio must lie"),
        ({"hires_mask_ratio": 0.0}, "mask_ratio must lie"),
        ({"reference_m": 0.0}, "reference_m must be positive"),
        ({"slopes": (1.0,)}, "slopes must be 4"),
        ({"slopes": (1.0, -1.0, 1.0, 1.0)}, "slopes must be 4"),
        ({"hires_target": "every second"}, "hires_target must be"),
        (
            {"band_stats": (BandStats(mean=(0.0,), std=(1.0,)),)},
            "band_stats must be one per sensor",
        ),
    ],
)
def test_impossible_models_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PRESETS["tiny"], **change)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"steps": 0}, "steps must be a positive whole number"),
        ({"steps": None}, "steps or epochs must be given, the other None, got steps=None and"),
        ({"epochs": 3}, "steps or epochs must be given, the other None, got steps=180 and epochs"),
        ({"steps": None, "epochs": 0}, "epochs must be a positive whole number"),
        ({"batch": -1}, "batch must be a positive whole number"),
        ({"batch": 1}, "batch must be 2 or more"),
        ({"ground_px": 95}, "within ground_px"),
        ({"ground_px": 257}, "within a tile of 256 px"),
        ({"learning_rate": math.nan}, "learning_rate must be positive"),
        ({"warmup": -0.1}, "warmup must be finite and not negative"),
        ({"jitter": math.inf}, "jitter must be finite and not negative"),
        ({"crop_px": (64, 32)}, "crop_px must be"),
        ({"precision": "int8"}, "precision must be"),
    ],
)
def test_impossible_runs_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TRAINING["tiny"], **change)


def test_levels_need_a_positive_deviation_for_each_band():
    with pytest.raises(ValueError, match="mean and a std"):
        BandStats(mean=(0.0, 0.0), std=(1.0,))
    with pytest.raises(ValueError, match="std must be positive"):
        BandStats(mean=(0.0,), std=(0.0,))


def test_unknown_presets_are_refused():
    with pytest.raises(ValueError, match="preset must be one of"):
        preset("huge")
    with pytest.raises(ValueError, match="kind must be one of"):
        preset("tiny", kind="resnet")


def manhattan(query_xy, key_xy):
    return (query_xy[..., :, None, :] - key_xy[..., None, :, :]).abs().sum(-1)


def test_a_function_of_positions_is_stored_by_its_name_and_has_to_be_given_again():
    stored = replace(PRESETS["tiny"], position=manhattan).to_json()
    assert stored["position"] == f"{__name__}.manhattan"
    assert ModelConfig.from_json(stored, position=manhattan).position is manhattan
    for given in (None, math.dist):
        with pytest.raises(ValueError, match=r"must be the function .*manhattan, got "):
            ModelConfig.from_json(stored, position=given)
    with pytest.raises(ValueError, match=r"must be the function .*ground, got"):
        ModelConfig.from_json(PRESETS["tiny"].to_json(), position=manhattan)


def test_a_crop_larger_than_a_tile_is_refused():
    with pytest.raises(ValueError, match="within a tile of 256 px"):
        replace(TRAINING["tiny"], crop_px=(500, 600))
