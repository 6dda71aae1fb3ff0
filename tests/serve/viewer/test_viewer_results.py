"""What the viewer shows of a run of the real server, and what it saves."""

import csv
import io
import json
import re
import sys

import numpy as np
import pydicom
import pytest
from PIL import Image
from playwright.sync_api import expect

from siimdet.core.labels import STUDY
from siimdet.serve.app import STATIC

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

NAMES = {"fasterrcnn": "Faster R-CNN", "yolo": "YOLO", "ensemble": "Ensemble"}


@pytest.mark.real_data
@pytest.mark.parametrize(
    ("detector", "names"), [("fasterrcnn", {"Faster R-CNN"}), ("yolo", {"YOLO"}), ("ensemble", {"Ensemble"})]
)
def test_a_twelve_bit_file_is_previewed_and_run(open_viewer, twelve_bit, detector, names):
    viewer = open_viewer()
    viewer.show(twelve_bit)
    expect(viewer.at("#reading")).to_contain_text("1841 x 1955 px")
    greys = viewer.greys()
    height, width = greys.shape
    # Air is dark and bone is bright, which of MONOCHROME1 says that it was turned round.
    lung, spine = (greys[int(height * 0.3), int(width * x) - 5 : int(width * x) + 5].mean() for x in (0.29, 0.5))
    assert lung < spine - 40
    viewer.run(detector)
    found = set(viewer.at("#table tbody td:first-child").all_inner_texts())
    assert found >= names if detector == "ensemble" else found == names
    assert viewer.outlines.count() == viewer.rows.count()
    assert viewer.at("#classes li").count() == len(STUDY.names)
    expect(viewer.at("#classes li.top")).to_contain_text("most probable")


@pytest.mark.real_data
def test_a_jpeg_is_run_and_has_no_report(open_viewer, jpeg):
    viewer = open_viewer(refused=1)
    viewer.show(jpeg)
    expect(viewer.at("#reading")).to_contain_text("1024 x 1024 px · window 256 · level 128")
    viewer.run()
    viewer.page.click("[data-save=dcm]")
    expect(viewer.at("#refusal")).to_contain_text("DICOM")


@pytest.mark.parametrize(("detector", "begin"), [("fasterrcnn", "0.15"), ("yolo", "0.44"), ("ensemble", "0.44")])
def test_the_slider_begins_where_the_report_does(open_viewer, radiograph, detector, begin):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.run(detector, least=None)
    expect(viewer.at("#confidence output")).to_have_text(begin)
    expect(viewer.at("#start")).to_contain_text(f"Begins at {begin}")
    told = [row for row in viewer.rows.all_inner_texts() if row.startswith(NAMES[detector])]
    viewer.at("#confidence input").fill("0")  # which shows more, and leaves the report as it is
    report = pydicom.dcmread(io.BytesIO(viewer.saved("dcm")[1]))
    assert report.to_json().count('"POLYLINE"') == len(told)
    # Every score of this Faster R-CNN is above the usual threshold.
    assert (viewer.rows.count() > len(told)) == (detector != "fasterrcnn")


def test_slider_and_switches_work_without_a_request(open_viewer, radiograph):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.run()
    asked: list[str] = []
    viewer.page.on("request", lambda request: asked.append(request.url))
    scores = [float(text) for text in viewer.at("#table td:nth-child(2)").all_inner_texts()]
    assert scores == sorted(scores, reverse=True)
    least = round((scores[0] + scores[-1]) / 2, 2)
    viewer.at("#confidence input").fill(str(least))
    shown = sum(score >= least for score in scores)
    assert viewer.rows.count() == viewer.outlines.count() == shown < len(scores)
    expect(viewer.at("#count")).to_have_text(f"{shown} of {len(scores)} boxes are shown.")
    viewer.at("#confidence input").fill("0")
    viewer.at("#layers label").filter(has_text="Ensemble").click()
    assert viewer.rows.filter(has_text="Ensemble").count() == 0
    assert viewer.rows.count() == viewer.outlines.count() < len(scores)
    viewer.page.keyboard.press("b")
    assert viewer.rows.count() == viewer.outlines.count() == len(scores)
    assert asked == []


def test_a_heat_map_lies_over_the_image(open_viewer, radiograph):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.run()
    viewer.page.keyboard.press("b")
    plain, drawn = viewer.greys(), viewer.at("#overlay image[href]")
    expect(viewer.at("#heat-class")).to_have_value(
        viewer.at("#classes li.top span").first.inner_text().split()[0].lower()
    )
    seen = []
    for name in STUDY.names[:2]:
        viewer.at("#heat-class").select_option(name)
        viewer.at("#heat-on").check()
        expect(drawn).to_have_count(1, timeout=60_000)  # the server loads the package with the first
        viewer.page.wait_for_timeout(300)
        seen.append(viewer.greys())
        viewer.at("#heat-on").uncheck()
        expect(drawn).to_have_count(0)
    assert np.abs(viewer.greys() - plain).max() == 0
    assert all(np.abs(each - plain).max() > 20 for each in seen)
    assert np.abs(seen[0] - seen[1]).max() > 5


def test_results_are_saved(open_viewer, radiograph):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.run()
    name, png = viewer.saved("png")
    seen, written = viewer.greys(), np.asarray(Image.open(io.BytesIO(png)).convert("L"), float)
    # The picture is the view with its boxes, and a line that says what it is not for.
    assert written.shape == seen.shape
    inside = np.s_[20:700, 20:780]
    assert np.corrcoef(written[inside].ravel(), seen[inside].ravel())[0, 1] > 0.98
    assert (written[-30:, :200] > 200).sum() > 100 > (seen[-30:, :200] > 200).sum()
    answer = json.loads(viewer.saved("json")[1])
    assert name == f"{answer['images'][0]['id']}.png"
    assert viewer.saved("csv")[0] == f"{answer['images'][0]['id']}.csv"
    assert tuple(answer["study"]) == STUDY.names
    assert next(csv.reader(io.StringIO(viewer.saved("csv")[1].decode()))) == ["id", "PredictionString"]
    report = pydicom.dcmread(io.BytesIO(viewer.saved("dcm")[1]))
    assert (report.Modality, report.SOPClassUID.name) == ("SR", "Comprehensive 3D SR Storage")


def test_a_refused_file_is_told_in_words(open_viewer, radiograph, tmp_path):
    viewer = open_viewer(refused=1)
    text = tmp_path / "notes.dcm"
    text.write_text("not a radiograph")
    viewer.page.set_input_files("#files input", str(text))
    expect(viewer.at("#refusal")).to_contain_text("notes.dcm is no DICOM, PNG or JPEG file.")
    viewer.page.click("#run")
    expect(viewer.at("#refusal")).not_to_contain_text("is no DICOM")
    expect(viewer.at("#refusal")).to_contain_text(re.compile("DICOM"))
    expect(viewer.at("#results")).to_be_hidden()
    viewer.show(radiograph)
    expect(viewer.at("#refusal")).to_be_empty()
    viewer.run()


def test_files_that_are_the_same_are_named(open_viewer, radiograph, rectangle, tmp_path):
    viewer = open_viewer(refused=1)
    copy = tmp_path / "copy.dcm"
    copy.write_bytes(radiograph.read_bytes())
    viewer.show(radiograph, rectangle[0], copy)
    viewer.page.click("#run")
    expect(viewer.at("#refusal")).to_have_text(
        "File 3 (copy.dcm): found the bytes of file 1 (phantom.dcm), expected every file once."
    )
    viewer.show(radiograph, rectangle[0])
    viewer.run()


def test_without_the_extra_no_heat_map_is_offered(open_viewer, serve, radiograph, monkeypatch):
    monkeypatch.setitem(sys.modules, "pytorch_grad_cam", None)
    viewer = open_viewer(address=serve(static=STATIC).address)
    viewer.show(radiograph)
    viewer.run()
    expect(viewer.at("#classes")).to_be_visible()
    expect(viewer.at("#heat")).to_be_hidden()
    viewer.page.keyboard.press("h")
    expect(viewer.at("#refusal")).to_be_empty()


def test_a_study_of_two_files_is_dropped(open_viewer, radiograph, rectangle):
    viewer = open_viewer()
    files = [(path.name, list(path.read_bytes())) for path in (radiograph, rectangle[0])]
    viewer.page.evaluate(
        """files => {
            const dataTransfer = new DataTransfer();
            for (const [name, bytes] of files) dataTransfer.items.add(new File([new Uint8Array(bytes)], name));
            document.body.dispatchEvent(new DragEvent('drop', { dataTransfer, bubbles: true, cancelable: true }));
        }""",
        files,
    )
    expect(viewer.at("#viewport")).to_have_attribute("data-state", "shown")
    expect(viewer.at("#reading")).to_contain_text("600 x 500 px")
    first = viewer.at("#reading").inner_text()
    viewer.run()
    assert len(json.loads(viewer.saved("json")[1])["images"]) == 2
    viewer.page.keyboard.press("]")
    expect(viewer.at("#images :checked + span")).to_have_text("rectangle.png")
    expect(viewer.at("#reading")).to_contain_text("300 x 200 px")
    viewer.page.keyboard.press("[")
    expect(viewer.at("#reading")).to_have_text(first)


def test_a_run_is_cancelled(open_viewer, radiograph):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.page.click("#run")
    viewer.page.keyboard.press("Escape")
    expect(viewer.at("#status")).to_have_text("Cancelled.")
    expect(viewer.at("#run")).to_be_enabled()
    viewer.run()
