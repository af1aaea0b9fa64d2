"""The type of matrix products: what the device has, unless the user says otherwise."""

import platform
from pathlib import Path

import pytest
import torch

from salib.config import TRAINING
from salib.model.precision import autocast, resolve_precision

CPU = torch.device("cpu")


def test_auto_is_what_the_processor_has_and_other_names_are_refused():
    flags = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").is_file() else ""
    chosen = resolve_precision("auto", CPU)
    if "avx512_bf16" in flags or "amx_bf16" in flags:
        assert chosen == "bf16"
    elif "x86" in platform.machine():
        assert chosen == "float32"
    with pytest.raises(ValueError, match="precision must be one of"):
        resolve_precision("fp8", CPU)


@pytest.mark.parametrize("native", [False, True])
def test_autocast_multiplies_in_what_auto_stands_for(monkeypatch, native):
    monkeypatch.setattr("salib.model.precision.multiplies_bfloat16", lambda device: native)
    a = torch.ones(2, 2)
    for precision, half in (("auto", native), ("bf16", True), ("float32", False)):
        with autocast(precision, CPU):
            assert (a @ a).dtype == (torch.bfloat16 if half else torch.float32), precision


def test_every_preset_leaves_the_precision_to_the_device():
    assert {config.precision for config in TRAINING.values()} == {"auto"}
