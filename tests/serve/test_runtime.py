"""What the server finds is what the commands find in the same files."""

import csv
import json

import numpy as np
import pytest
import torch

from siimdet.cli import run
from siimdet.config import Coupling
from siimdet.config_file import load_config
from siimdet.core.labels import STUDY
from siimdet.data.coco import read_detections
from siimdet.data.manifest import read_dataset
from siimdet.data.table import read_table
from siimdet.errors import DatasetError, FusionError, RunError
from siimdet.imaging.dicom import write_radiograph
from siimdet.serve.runtime import ENSEMBLE, USUAL_THRESHOLD, Runtime
from siimdet.serve.uploads import receive
from siimdet.submission.file import write_submission

CPU = torch.device("cpu")
COUPLING = """
kind: coupling
calibration: [CALIBRATION]
fusion_iou: 0.4
WEIGHTS
nms_iou: 0.7
study_from_images: max
opacity: {own: 1.0, not_negative: 0.5, image_opacity: 0.25}
none: {own: 0.7, image_opacity: 0.3}
"""
ALL = COUPLING.replace("CALIBRATION", "{temperature: 1.5}, {temperature: 0.8}").replace(
    "WEIGHTS", "fusion_weights: [2, 1]"
)
FASTER_RCNN = COUPLING.replace("CALIBRATION", "{temperature: 1.5}").replace("WEIGHTS", "")
YOLO = COUPLING.replace("CALIBRATION", "{temperature: 0.8}").replace("WEIGHTS", "")


@pytest.fixture(scope="module")
def study(radiograph, tmp_path_factory):
    """Folder of a study of two files: 12 bits of MONOCHROME1, and 16 signed bits with a rescale and a window."""
    folder = tmp_path_factory.mktemp("study")
    (folder / "a.dcm").write_bytes(radiograph.read_bytes())
    pixels = np.random.default_rng(5).integers(-2000, 2000, (90, 130)).astype(np.int16)
    ids = {"patient_id": "Doe^Jane", "study_uid": "1.2.3", "series_uid": "1.2.3.4", "sop_uid": "1.2.3.4.6"}
    shown = {"rescale": (2.0, -24.0), "window": (100.0, 5000.0), "syntax": "rle"}
    write_radiograph(folder / "b.dcm", pixels, bits_stored=16, **shown, **ids)
    return folder


@pytest.fixture(scope="module")
def commanded(study, runs, tmp_path_factory):
    """What convert, predict, fuse and submit write of the study."""
    out = tmp_path_factory.mktemp("commanded")
    data = ("--dataset", out / "data", "--split", "test")
    boxes = [out / "faster_rcnn.json", out / "yolo.json"]
    for command in (
        ("convert", "dicom", "--raw", study, "--out", out / "data", "--workers", "1"),
        ("predict", runs.faster_rcnn, *data, "--out", boxes[0]),
        ("predict", runs.yolo, *data, "--out", boxes[1]),
        ("predict", runs.study, *data, "--out", out / "study.csv"),
        ("fuse", *boxes, "--dataset", out / "data", "--out", out / "fused.json"),
    ):
        assert run([str(each) for each in command]) == 0
    return out


@pytest.fixture
def uploads(study, tmp_path):
    return [receive(tmp_path, (study / name).read_bytes(), "dicom") for name in ("a.dcm", "b.dcm")]


def rows(result, image, detector):
    return [
        (box.x1, box.y1, box.x2, box.y2, box.score) for box in result.images[image].boxes if box.detector == detector
    ]


def test_boxes_and_probabilities_are_those_of_the_commands(runtime, uploads, commanded):
    data = read_dataset(commanded / "data")
    result = runtime.find(uploads, ENSEMBLE).result
    assert [image.image_id for image in result.images] == [upload.image_id for upload in uploads]
    assert [(image.size.width, image.size.height) for image in result.images] == [(240, 200), (130, 90)]
    for detector, file in (("fasterrcnn", "faster_rcnn"), ("yolo", "yolo"), (ENSEMBLE, "fused")):
        written = read_detections(commanded / f"{file}.json", data)
        for number, image_id in enumerate(("a", "b")):
            expected = np.column_stack([written[image_id].xyxy, written[image_id].scores])
            found = np.array(rows(result, number, detector))
            assert len(found) > 2
            assert found == pytest.approx(expected, abs=2e-3 if detector == ENSEMBLE else 1e-4)
    table = read_table(commanded / "study.csv", STUDY.names, kind=DatasetError)
    images = np.array([[float(cell) for cell in cells] for _, cells in table.select(*STUDY.names)])
    assert list(result.study.values()) == pytest.approx(images.mean(0).tolist(), abs=1e-6)


@pytest.mark.parametrize(
    "detector, names, own",
    [
        (ENSEMBLE, ("faster_rcnn", "yolo"), ALL),
        ("fasterrcnn", ("faster_rcnn",), FASTER_RCNN),
        ("yolo", ("yolo",), YOLO),
    ],
)
def test_the_rows_are_those_of_submit_to_the_last_digit(runs, uploads, commanded, tmp_path, detector, names, own):
    (tmp_path / "all.yaml").write_text(ALL)
    (tmp_path / "own.yaml").write_text(own)
    asked = [option for name in names for option in ("--detector", getattr(runs, name))]
    data = ("--dataset", commanded / "data", "--split", "test", "--study", runs.study)
    command = ("submit", *asked, *data, "--coupling", tmp_path / "own.yaml", "--out", tmp_path / "submission.csv")
    assert run([str(each) for each in command]) == 0
    settings = load_config(tmp_path / "all.yaml", kinds=("coupling",))
    found = Runtime([runs.faster_rcnn, runs.yolo], runs.study, coupling=settings, device=CPU).find(uploads, detector)
    write_submission(tmp_path / "found.csv", found.submission)
    (study_id,) = (name for name in found.submission.ids if name.endswith("_study"))
    first, second = (f"{upload.image_id}_image" for upload in uploads)
    ids = {study_id: "1.2.3_study", first: "a_image", second: "b_image"}
    cells = {ids[name]: cell for name, cell in _cells(tmp_path / "found.csv").items()}
    assert cells == _cells(tmp_path / "submission.csv")
    assert all("opacity" in cell for name, cell in cells.items() if name.endswith("_image"))


def test_one_detector_alone_is_not_fused(runtime, uploads):
    alone, all_of_them = (runtime.find(uploads, name) for name in ("yolo", ENSEMBLE))
    assert {box.detector for image in alone.result.images for box in image.boxes} == {"yolo"}
    assert rows(alone.result, 0, "yolo") == rows(all_of_them.result, 0, "yolo")
    assert alone.result.study == all_of_them.result.study


def test_the_study_has_the_same_id_in_any_order(runtime, uploads):
    one, other = runtime.find(uploads, "yolo"), runtime.find(uploads[::-1], "yolo")
    assert one.submission.ids == other.submission.ids
    assert [image.image_id for image in other.result.images] == [upload.image_id for upload in uploads[::-1]]


def test_it_stops_between_two_models_and_tells_how_far_it_is(runtime, uploads):
    told: list[float] = []
    assert runtime.find(uploads, ENSEMBLE, tell=told.append, go_on=lambda: len(told) < 1) is None
    assert told == [1 / 3]


def test_a_second_detector_of_a_kind_has_a_number(runs, uploads, tmp_path):
    copy = tmp_path / "copy"
    copy.symlink_to(runs.yolo)
    with pytest.raises(FusionError, match="found it twice"):
        Runtime([runs.yolo, copy], runs.study, coupling=Coupling(kind="coupling"), device=CPU)
    copy.unlink()
    (copy / "weights").mkdir(parents=True)
    for name in ("model.json", "weights/best.safetensors"):
        (copy / name).write_bytes((runs.yolo / name).read_bytes())
    card = json.loads((copy / "model.json").read_text())
    points = {"opacity": {"threshold": 0.25}}
    (copy / "model.json").write_text(json.dumps(card | {"operating_points": points}))
    loaded = Runtime([runs.yolo, copy], runs.study, coupling=Coupling(kind="coupling"), device=CPU)
    assert loaded.choices == ("yolo", "yolo-2", ENSEMBLE)
    assert [loaded.threshold(name) for name in loaded.choices] == [USUAL_THRESHOLD, 0.25, 0.25]
    result = loaded.find(uploads[:1], ENSEMBLE).result
    assert rows(result, 0, "yolo") == rows(result, 0, "yolo-2")


def test_runs_and_settings_that_do_not_fit(runs):
    usual = Coupling(kind="coupling")
    with pytest.raises(RunError, match="classes: found opacity, expected negative"):
        Runtime([runs.yolo], runs.yolo, coupling=usual, device=CPU)
    with pytest.raises(RunError, match=r"classes: found negative, .*, expected opacity"):
        Runtime([runs.study], runs.study, coupling=usual, device=CPU)
    three = Coupling(kind="coupling", fusion_weights=(1, 1, 1))
    with pytest.raises(FusionError, match="weights"):
        Runtime([runs.yolo], runs.study, coupling=three, device=CPU).warm_up()


def test_heat_lies_over_the_image(runtime, uploads):
    heats = [runtime.heat(uploads[1], name) for name in STUDY.names]
    assert {(heat.shape, heat.dtype) for heat in heats} == {((90, 130, 4), np.dtype(np.uint8))}
    # Where a class has heat at all its hottest place is as opaque as in `siimdet explain`.
    hottest = [heat[..., 3].max() for heat in heats]
    assert max(hottest) == pytest.approx(0.6 * 255, abs=1.5)


def _cells(path):
    with open(path, newline="") as stream:
        return dict(list(csv.reader(stream))[1:])
