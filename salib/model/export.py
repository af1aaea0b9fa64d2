"""An encoder as a program of its own, for machines without this library: torch.export, ONNX."""

import copy

import torch
from torch import Tensor, nn
from torch.export import Dim, ExportedProgram

from salib.config import SENSORS
from salib.model.fusion import ScaleAlibi


class SensorEncoder(nn.Module):
    """One sensor's encoder, from pixel values and metres per pixel to a vector per patch."""

    def __init__(self, model: ScaleAlibi, sensor: str) -> None:
        """Copy a model, with the definition of attention, which any exporter knows.

        Raises:
            ValueError: if the model has no such sensor.
        """
        if sensor not in model.config.sensors:
            raise ValueError(f"sensor must be one of {model.config.sensors}, got {sensor!r}")
        super().__init__()
        self.model, self.sensor = copy.deepcopy(model).eval(), sensor
        self.model.impl = "reference"

    def forward(self, images: Tensor, gsd_m: Tensor) -> Tensor:
        """Tokens, (batch, tokens, dim), of images (batch, bands, height, width) in float32."""
        pixels = self.model.encoder(self.sensor).standardise[self.sensor](images)
        tokens = self.model.encode(self.sensor, self.model.tokenize(self.sensor, pixels, gsd_m))
        return self.model.whitening(self.sensor, tokens.x)


def export_encoder(model: ScaleAlibi, sensor: str) -> ExportedProgram:
    """One sensor's encoder for any batch, image size and ground sample distance.

    The program takes float32 pixel values (batch, bands, height, width), sides at least two patches
    long and multiples of one, and metres per pixel (batch); it returns tokens (batch, tokens, dim).
    Their mean is what `embed` returns. `torch.export.save` stores it; `torch.onnx.export` makes
    ONNX of it, if onnxscript is installed.

    Raises:
        ValueError: if the model has no such sensor.
    """
    encoder, patch = SensorEncoder(model, sensor), model.config.patch_px
    images = torch.zeros(2, len(SENSORS[sensor].bands), 3 * patch, 4 * patch)
    batch = Dim("batch", min=1)
    sides = {2: patch * Dim("rows", min=2), 3: patch * Dim("cols", min=2)}
    shapes = {"images": {0: batch, **sides}, "gsd_m": {0: batch}}
    with torch.no_grad():
        return torch.export.export(encoder, (images, torch.ones(2)), dynamic_shapes=shapes)
