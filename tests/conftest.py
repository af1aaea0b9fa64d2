"""Shared set-up: where expected numbers and real data may lie."""

import os
from pathlib import Path

import torch

torch.set_num_threads(max(1, min(2, os.cpu_count() or 1)))
_beside = Path(os.environ.get("SALIB_DATA_DIR", "")).parent / "oracles"
if os.environ.get("SALIB_DATA_DIR") and _beside.is_dir():
    os.environ.setdefault("SALIB_ORACLE_DIR", str(_beside))
