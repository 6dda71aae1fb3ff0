"""Compiles the scoring and fusion kernels on import, for every process that is forked from one that has imported it."""

import numpy as np

from siimdet.core.types import BoxLabels, Detections, ImageSize, LabelSpace
from siimdet.inference.fusion import fuse
from siimdet.scoring import detection_ap

SIZE, BOX, CLASS = ImageSize(9, 9), np.array([[1, 1, 5, 5]], np.float32), np.zeros(1, np.int64)
FOUND = {"a": Detections(BOX, CLASS, np.ones(1, np.float32), SIZE)}
detection_ap({"a": BoxLabels(BOX, CLASS, SIZE)}, fuse([FOUND, FOUND]), LabelSpace("one", ("a",)))
