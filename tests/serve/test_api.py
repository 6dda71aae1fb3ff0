"""The interface of a server's process: what it answers, and the files of a result."""

import io
import json
import re

import highdicom
import httpx
import pydicom
import pytest
from PIL import Image

from siimdet.core.labels import STUDY

pytestmark = pytest.mark.timeout(180)


def test_an_answer_that_is_waited_for(running, png, radiograph):
    answer = running.post(radiograph.read_bytes(), png(side=64))
    assert answer.status_code == 200
    told = answer.json()
    assert (told["state"], told["progress"]) == ("done", 1.0)
    assert [(image["width"], image["height"]) for image in told["images"]] == [(240, 200), (64, 64)]
    assert tuple(told["study"]) == STUDY.names
    assert sum(told["study"].values()) == pytest.approx(1, abs=1e-5)
    for image in told["images"]:
        assert re.fullmatch(r"[0-9a-f]{16}", image["id"])
        assert {box["detector"] for box in image["boxes"]} == {"fasterrcnn", "yolo", "ensemble"}
        for box in image["boxes"]:
            assert set(box) == {"x1", "y1", "x2", "y2", "score", "detector"}
            assert 0 <= box["x1"] < box["x2"] <= image["width"]
            assert 0 <= box["y1"] < box["y2"] <= image["height"]
            assert 0 < box["score"] <= 1


def test_the_ensemble_is_the_default(running, png):
    asked, left_out = (running.post(png(), detector=detector).json() for detector in ("ensemble", None))
    assert asked["images"] == left_out["images"]


@pytest.mark.parametrize("detector", ["fasterrcnn", "yolo"])
def test_one_detector_alone(running, png, detector):
    answer = running.post(png(), detector=detector).json()
    assert {box["detector"] for image in answer["images"] for box in image["boxes"]} == {detector}


def test_without_waiting_a_study_is_asked_for_until_it_is_done(running, png):
    answer = running.post(png(1), png(2), wait=0)
    assert (answer.status_code, set(answer.json())) == (202, {"id"})
    key = answer.json()["id"]
    with httpx.stream("GET", f"{running.address}/api/predict/{key}/events", timeout=60, trust_env=False) as stream:
        assert stream.headers["content-type"].startswith("text/event-stream")
        states = [json.loads(line[6:]) for line in stream.iter_lines() if line.startswith("data: ")]
    assert states[-1]["state"] == "done"
    assert len(states[-1]["images"]) == 2
    assert states[-1] == running.study(key) == running.get(f"/api/predict/{key}/report.json").json()
    progress = [state["progress"] for state in states]
    assert progress == sorted(progress)
    # A study that has ended stays as it is.
    assert running.ask("DELETE", f"/api/predict/{key}").json() == states[-1]


def test_a_file_that_comes_twice_is_refused_by_both_numbers(running, png):
    answer = running.post(png(5), png(6), png(5))
    assert answer.status_code == 422
    assert answer.json() == {"detail": "file 3: found the bytes of file 1, expected every file once"}


def test_two_files_of_one_name_are_two_images(running, png):
    parts = [("files", ("IM0001", png(seed))) for seed in (5, 6)]
    answer = running.ask("POST", "/api/predict?wait=1", files=parts)
    assert len({image["id"] for image in answer.json()["images"]}) == 2


def test_results_are_files_too(running, radiograph, png):
    key = running.post(radiograph.read_bytes()).json()["id"]
    place = f"/api/predict/{key}"
    image = running.get(f"{place}/images/0")
    assert (image.content, image.headers["content-type"]) == (radiograph.read_bytes(), "application/dicom")
    rows = sorted(running.get(f"{place}/report.csv").text.splitlines())
    assert rows[2] == "id,PredictionString"
    assert re.fullmatch(
        r"[0-9a-f]{16}_image,none [\d.]+ 0 0 1 1( opacity [\d.e-]+( [\d.]+){4})+", max(rows[:2], key=len)
    )
    heat = Image.open(io.BytesIO(running.get(f"{place}/images/0/heatmap?class=typical").content))
    assert (heat.size, heat.mode) == ((240, 200), "RGBA")
    assert running.get(f"{place}/images/0/heatmap?class=flu").status_code == 422
    assert running.get(f"{place}/images/1").status_code == 404
    assert running.get(f"{place}/images/x").json() == {
        "detail": "number: Input should be a valid integer, unable to parse string as an integer"
    }


@pytest.mark.parametrize("detector", ["yolo", "ensemble"])
def test_a_structured_report_names_detector_and_patient(running, radiograph, detector):
    key = running.post(radiograph.read_bytes(), detector=detector).json()["id"]
    answer = running.get(f"/api/predict/{key}/report.dcm")
    assert answer.headers["content-type"] == "application/dicom"
    report = highdicom.sr.Comprehensive3DSR.from_dataset(pydicom.dcmread(io.BytesIO(answer.content)))
    assert (report.PatientID, report.ManufacturerModelName) == ("Doe^Jane", f"siimdet {detector}")


def test_a_picture_has_no_structured_report(running, png, radiograph):
    key = running.post(png(3), radiograph.read_bytes()).json()["id"]
    assert running.get(f"/api/predict/{key}/images/0").headers["content-type"] == "image/png"
    answer = running.get(f"/api/predict/{key}/report.dcm")
    detail = "a structured report stands on DICOM files, and this study has others"
    assert (answer.status_code, answer.json()) == (409, {"detail": detail})


def test_what_the_server_says_of_itself(running, png):
    before = running.figures()
    running.post(png(4))
    after = running.figures()
    models = running.get("/api/models").json()
    assert models["choices"] == ["fasterrcnn", "yolo", "ensemble"]
    assert models["thresholds"] == {"fasterrcnn": 0.15, "yolo": 0.15, "ensemble": 0.15}  # no run tells its own
    assert [(each["name"], each["kind"], each["threshold"]) for each in models["models"]] == [
        ("fasterrcnn", "faster_rcnn", None),
        ("yolo", "yolo", None),
        ("study", "classifier", None),
    ]
    assert models["heatmaps"] is True
    assert all(re.fullmatch(r"[0-9a-f]{64}", model["sha256"]) for model in models["models"])
    assert running.get("/healthz").json() == {"status": "ok"}
    for name in ('siimdet_studies_total{outcome="done"}', "siimdet_study_seconds_count"):
        assert after[name] == before[name] + 1
    assert after['siimdet_study_seconds_bucket{le="+Inf"}'] == after["siimdet_study_seconds_count"]
    assert after["process_resident_memory_bytes"] > 1e7
    paths = running.get("/openapi.json").json()["paths"]
    assert "multipart/form-data" in paths["/api/predict"]["post"]["requestBody"]["content"]
    assert running.get("/docs").status_code == 404


def test_unknown_studies_and_detectors(running, png):
    for path in ("", "/events", "/images/0", "/report.csv", "/report.dcm"):
        assert running.get(f"/api/predict/unknown{path}").status_code == 404
    answer = running.post(png(), detector="retinanet")
    assert answer.status_code == 422
    assert answer.json() == {"detail": "detector: found 'retinanet', expected one of fasterrcnn, yolo, ensemble"}
