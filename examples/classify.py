"""Fine-tune a model into a classifier of images in folders, `<class>/<image>`.

python examples/classify.py MODEL IMAGES GSD_M
"""

import sys

import numpy as np
import torch
from torch import nn

from salib import load_model
from salib.evaluate import folder_task
from salib.evaluate.tasks.task import iter_split
from salib.model.export import SensorEncoder

model, folder, gsd_m = load_model(sys.argv[1]), sys.argv[2], float(sys.argv[3])
task, data = folder_task(folder, gsd_m=gsd_m), {}
for split in ("train", "test"):
    images, labels = zip(*iter_split(task, split), strict=True)
    pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2).float()
    data[split] = pixels, torch.tensor(labels)

torch.manual_seed(0)
encoder = SensorEncoder(model, "lores")
head = nn.Linear(model.config.dim, len(task.class_names))


def scores(pixels):
    return head(encoder(pixels, torch.full((len(pixels),), gsd_m)).mean(dim=1))


optimizer = torch.optim.AdamW([*encoder.parameters(), *head.parameters()], lr=3e-4)
pixels, labels = data["train"]
for epoch in range(5):
    for rows in torch.randperm(len(labels)).split(32):
        loss = nn.functional.cross_entropy(scores(pixels[rows]), labels[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    with torch.no_grad():
        right = (scores(data["test"][0]).argmax(dim=1) == data["test"][1]).float().mean()
    print(f"epoch {epoch + 1}: {right:.1%} of the test images are right")
