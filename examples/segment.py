"""Fine-tune a model into a segmenter of images with masks, `images/x.png` and `masks/x.png`.

python examples/segment.py MODEL FOLDER GSD_M
"""

import sys
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn

from salib import load_model
from salib.model.export import SensorEncoder

model, folder, gsd_m = load_model(sys.argv[1]), Path(sys.argv[2]), float(sys.argv[3])
paths = sorted((folder / "images").glob("*.png"))
pixels = np.stack([np.array(Image.open(path).convert("RGB")) for path in paths])
labels = np.stack([np.array(Image.open(folder / "masks" / path.name)) for path in paths])
pixels = torch.from_numpy(pixels).permute(0, 3, 1, 2).float()
labels = torch.from_numpy(labels).long()

torch.manual_seed(0)
train, test = torch.randperm(len(paths)).split([len(paths) - len(paths) // 5, len(paths) // 5])
encoder, patch_px = SensorEncoder(model, "lores"), model.config.patch_px
head = nn.Conv2d(model.config.dim, int(labels.max()) + 1, 1)


def scores(pixels):
    tokens = encoder(pixels, torch.full((len(pixels),), gsd_m))
    rows, cols = (side // patch_px for side in pixels.shape[-2:])
    maps = head(tokens.mT.unflatten(2, (rows, cols)))
    return nn.functional.interpolate(maps, pixels.shape[-2:], mode="bilinear")


optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-4)
for epoch in range(5):
    for rows in train[torch.randperm(len(train))].split(16):
        loss = nn.functional.cross_entropy(scores(pixels[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (scores(pixels[test]).argmax(dim=1) == labels[test]).float().mean()
    print(f"epoch {epoch + 1}: {right:.1%} of the test pixels are right")
