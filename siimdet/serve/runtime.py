"""The models of a server, loaded once, and what they find in a study: the same as convert and submit would."""

import hashlib
import tempfile
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from siimdet.config import Coupling
from siimdet.core.boxes import scale_boxes
from siimdet.core.labels import OPACITY, STUDY
from siimdet.core.types import BoxLabels, Detections, ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.errors import RunError
from siimdet.inference.explain import STRONGEST, explanations
from siimdet.inference.predict import ClassPredictions
from siimdet.inference.run import predict_model
from siimdet.models.image_classifier import ImageClassifier
from siimdet.models.weights import MODEL, ModelSpec, load_model, read_card
from siimdet.serve.results import FoundBox, ImageResult, StudyResult
from siimdet.serve.uploads import Upload, receive
from siimdet.submission.assemble import assemble, check_distinct
from siimdet.submission.coupling import for_one_detector
from siimdet.submission.table import Submission

ENSEMBLE = "ensemble"
USUAL_THRESHOLD = 0.15
"""Least score of a box worth a look, where no run tells its operating point."""

Progress = Callable[[float], None]
Boxes = Mapping[str, Detections]


@dataclass(frozen=True, slots=True, eq=False)
class LoadedRun:
    """A run's best model on its device.

    `threshold` is the score of a detector's operating point, None where the run tells none; `digest` the SHA-256 of
    the weights.
    """

    run: Path
    model: nn.Module
    spec: ModelSpec
    threshold: float | None
    digest: str


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """What is found in a study: for people, and as the rows that `submit` would write."""

    result: StudyResult
    submission: Submission


class Runtime:
    """Detectors by name and a study classifier. One study at a time: a model is no thing for several threads.

    A detector is called by its kind, such as `fasterrcnn` or `yolo`; further ones of a kind are numbered from 2.
    """

    def __init__(self, detectors: Sequence[Path], study: Path, *, coupling: Coupling, device: torch.device) -> None:
        """Load the runs. Raises: RunError for a broken run or other classes; FusionError for one given twice."""
        check_distinct(detectors)
        self.device, self.coupling = device, coupling
        self.detectors: dict[str, LoadedRun] = {}
        for run in detectors:
            loaded = _loaded(run, device, OPACITY.names)
            self.detectors[_free_name(loaded.spec.kind.replace("_", ""), self.detectors)] = loaded
        self.study = _loaded(study, device, STUDY.names)
        self._lock = threading.Lock()

    @property
    def choices(self) -> tuple[str, ...]:
        """What a request may ask for: each detector, and all of them fused."""
        return (*self.detectors, ENSEMBLE)

    def asked(self, detector: str) -> dict[str, LoadedRun]:
        """The detectors that a choice runs."""
        return self.detectors if detector == ENSEMBLE else {detector: self.detectors[detector]}

    def threshold(self, detector: str) -> float:
        """Least score of a choice's boxes that are worth a look: fused scores are means of the detectors' own."""
        points = [each.threshold for each in self.asked(detector).values() if each.threshold is not None]
        return sum(points) / len(points) if points else USUAL_THRESHOLD

    @property
    def coupling_digest(self) -> str:
        """SHA-256 of the coupling."""
        return hashlib.sha256(self.coupling.model_dump_json().encode()).hexdigest()

    def warm_up(self) -> None:
        """Find something in a grey ramp, so that the first study does not wait for what is compiled or started then.

        Raises: UserError for a coupling that does not fit the runs.
        """
        ramp = cv2.imencode(".png", np.tile(np.arange(256, dtype=np.uint8), (256, 1)))[1].tobytes()
        with tempfile.TemporaryDirectory(prefix="siimdet-") as folder:
            self.find([receive(Path(folder), ramp, "png")], ENSEMBLE)

    def find(
        self,
        uploads: Sequence[Upload],
        detector: str,
        *,
        tell: Progress = lambda _: None,
        go_on: Callable[[], bool] = lambda: True,
    ) -> Found | None:
        """What is found in a study's images; None where `go_on` said no before a model.

        The result holds a detector's boxes as it gives them, and with ENSEMBLE those of all, with the fused ones. The
        submission holds what `submit` makes of the detectors asked for.
        Raises: UserError for a coupling that does not fit the runs.
        """
        records = _records(uploads)
        data = _dataset(uploads[0].path.parent, records)
        boxes: dict[str, Boxes] = {}
        asked = self.asked(detector)
        with self._lock:
            for name, loaded in asked.items():
                if not go_on():
                    return None
                boxes[name] = cast(Boxes, self._predict(loaded, data, records))
                tell(len(boxes) / (len(asked) + 1))
            if not go_on():
                return None
            classes = cast(ClassPredictions, self._predict(self.study, data, records))
        coupling = self.coupling
        if detector != ENSEMBLE:
            coupling = for_one_detector(coupling, list(self.detectors).index(detector))
        made = assemble(records, boxes, classes.classes, coupling, file="upload", opacity=classes.opacity)
        if detector == ENSEMBLE:
            boxes[ENSEMBLE] = made.fused
        images = tuple(_image_result(record, boxes) for record in records)
        study = dict(zip(STUDY.names, made.studies.values[0].tolist(), strict=True))
        return Found(StudyResult(images, study), made.submission)

    def heat(self, upload: Upload, class_name: str) -> NDArray[np.uint8]:
        """Grad-CAM of the study classifier for a class, to lay over an image: u8[H, W, 4], blue, green, red, opacity.

        Raises: MissingExtra without the package that makes it.
        """
        records, spec = _records([upload]), self.study.spec
        options: dict[str, Any] = {"side": spec.image_size, "resize": spec.resize, "device": self.device}
        model, data = cast(ImageClassifier, self.study.model), _dataset(upload.path.parent, records)
        with self._lock:
            found = explanations(model, data, records, class_id=STUDY.index(class_name), **options)
            heat = next(found).heat
        colours = cv2.applyColorMap(np.rint(heat * 255).astype(np.uint8), cv2.COLORMAP_JET)
        opaque = np.rint(heat * (STRONGEST * 255)).astype(np.uint8)
        return np.asarray(np.dstack([colours, opaque]), np.uint8)

    def _predict(
        self, loaded: LoadedRun, data: Dataset, records: Sequence[ImageRecord]
    ) -> dict[str, Detections] | ClassPredictions:
        return predict_model(loaded.run, loaded.model, loaded.spec, data, records, device=self.device)


def _loaded(run: Path, device: torch.device, names: tuple[str, ...]) -> LoadedRun:
    model, spec = load_model(run)
    if spec.classes.names != names:
        raise RunError(run / MODEL, "classes", found=", ".join(spec.classes.names), expected=", ".join(names))
    if (spec.kind == "classifier") != (names == STUDY.names):
        expected = "a classifier" if names == STUDY.names else "a detector"
        raise RunError(run / MODEL, "kind", found=f"a {spec.kind}", expected=expected)
    card = read_card(run)
    point = (card.get("operating_points") or {}).get(names[0]) or {}
    return LoadedRun(run, model.to(device), spec, point.get("threshold"), card["sha256"])


def _free_name(name: str, taken: Mapping[str, LoadedRun]) -> str:
    numbered = (f"{name}-{number}" for number in range(2, len(taken) + 3))
    return next(each for each in (name, *numbered) if each not in taken)


def _records(uploads: Sequence[Upload]) -> tuple[ImageRecord, ...]:
    """The uploads as images of one study, whose id follows from theirs in any order."""
    study = hashlib.sha256("".join(sorted(upload.digest for upload in uploads)).encode()).hexdigest()[:16]
    unknown = np.full(len(STUDY), np.nan, np.float32)
    return tuple(
        ImageRecord(upload.image_id, study, study, upload.image.name, upload.size, upload.size, unknown, "test")
        for upload in uploads
    )


def _dataset(folder: Path, records: Sequence[ImageRecord]) -> Dataset:
    boxes = {record.image_id: BoxLabels.empty(record.stored) for record in records}
    return Dataset(folder, "upload", STUDY, OPACITY, 8, tuple(records), boxes, fingerprint="")


def _image_result(record: ImageRecord, boxes: Mapping[str, Boxes]) -> ImageResult:
    found: list[FoundBox] = []
    for name, by_image in boxes.items():
        if (each := by_image.get(record.image_id)) is not None:
            xyxy = scale_boxes(each.xyxy, record.stored, record.original)
            rows = zip(xyxy.tolist(), each.scores.tolist(), strict=True)
            found += [FoundBox(*corners, score=score, detector=name) for corners, score in rows]
    return ImageResult(record.image_id, record.original, tuple(found))
