"""Triples of the procedural Earth a minute of processor time on one core.

OMP_NUM_THREADS=1 python benchmarks/world.py [count]
"""

import sys
import time

import cv2
import numpy as np

from earth import render_triple

cv2.setNumThreads(1)
count = int(sys.argv[1]) if len(sys.argv) > 1 else 500
places = np.random.default_rng(0).uniform(-1e6, 1e6, (count + 20, 2))
for x_m, y_m in places[:20]:
    render_triple(1, x_m, y_m)
start = time.process_time()
for x_m, y_m in places[20:]:
    render_triple(1, x_m, y_m)
print(f"{60 * count / (time.process_time() - start):.0f} triples a minute of processor time")
