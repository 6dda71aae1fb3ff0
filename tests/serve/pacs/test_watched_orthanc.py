"""`siimdet serve --pacs` beside a real Orthanc: results appear once, whatever ends or fails in between."""

import sqlite3
import subprocess
import time

import pytest
from highdicom.sr import Comprehensive3DSR

from siimdet.serve.runtime import USUAL_THRESHOLD

pytestmark = pytest.mark.pacs

STUDY = "1.2.826.0.1.7"
RESULTS = ["OT", "PR", "SR"]
"""Of a study of one image: a picture, a presentation state, a report."""
INTERVAL = 0.3


@pytest.fixture
def watch(start, archive, tmp_path):
    """Start `siimdet serve --pacs` on the archive."""
    started = []

    def watch_(*options):
        state = ("--pacs-state", str(tmp_path / "state.sqlite"))
        given = ("--pacs", archive.url, "--pacs-interval", str(INTERVAL), *state, *options)
        started.append(start(*given, environment=archive.environment))
        return started[-1]

    yield watch_
    for server in started:
        if server.process.is_alive():
            assert server.stop() == 0


@pytest.fixture
def states(tmp_path):
    """What the journal says: states() by study."""

    def states_():
        with sqlite3.connect(tmp_path / "state.sqlite") as database:
            return {
                study: (state, reason)
                for study, state, reason in database.execute("SELECT study, state, reason FROM studies")
            }

    return states_


def boxes_of(report):
    """(SOP instance, x1, y1, x2, y2, score in percent) of every box of a report."""
    groups = Comprehensive3DSR.from_dataset(report).content.get_planar_roi_measurement_groups()
    rows = []
    for group in groups:
        points = group.roi.value
        image = group.roi.ContentSequence[0].ReferencedSOPSequence[0].ReferencedSOPInstanceUID
        score = next(each.value for each in group.get_measurements() if each.name.value == "111012")
        rows.append((image, *points.min(axis=0), *points.max(axis=0), float(score)))
    return rows


def assert_accepted(found, path):
    """By dciodvfy and, a report, by dsrdump."""
    found.save_as(path, enforce_file_format=True)
    judged = subprocess.run(["dciodvfy", path], capture_output=True, text=True, check=False)
    assert "Error" not in judged.stderr, judged.stderr
    if found.Modality == "SR":
        shown = subprocess.run(["dsrdump", path], capture_output=True, text=True, check=False)
        assert shown.returncode == 0 and "Imaging Measurement Report" in shown.stdout


def test_a_study_gets_its_results_once(watch, archive, film, states, eventually, tmp_path):
    frontal = [film(STUDY, 1), film(STUDY, 2)]
    archive.store(*frontal, film(STUDY, 3, ViewPosition="LL"))
    archive.store(film("1.2.826.0.1.8", 1, BodyPartExamined="HAND"))
    server = watch()
    eventually(lambda: len(archive.results(STUDY)) == 5)
    eventually(lambda: len(states()) == 2)
    assert archive.results(STUDY) == ["OT", "OT", "PR", "PR", "SR"]

    answer = server.post(*(path.read_bytes() for path in frontal)).json()
    wanted = [
        (f"{STUDY}.1.{number}", *(box[side] for side in ("x1", "y1", "x2", "y2")), 100 * box["score"])
        for number, image in enumerate(answer["images"], start=1)
        for box in image["boxes"]
        if box["detector"] == "ensemble" and box["score"] >= USUAL_THRESHOLD
    ]
    (report,) = archive.objects(STUDY, "SR")
    found = boxes_of(report)
    assert len(found) == len(wanted) > 0
    for row, expected in zip(sorted(found), sorted(wanted), strict=True):
        assert row[0] == expected[0]
        assert row[1:] == pytest.approx(expected[1:], abs=1e-3)
    for number, each in enumerate(archive.objects(STUDY, *RESULTS)):
        assert (each.PatientID, each.StudyInstanceUID) == ("Doe^Jane", STUDY)
        assert_accepted(each, tmp_path / f"{number}.dcm")

    time.sleep(5 * INTERVAL)  # further looks find nothing to do, the results themselves least of all
    assert len(archive.results(STUDY)) == 5
    assert archive.relay.stores == 4 + 1  # the films by this test, all results at once
    assert archive.results("1.2.826.0.1.8") == []
    assert states()[STUDY] == ("stored", "")
    assert states()["1.2.826.0.1.8"] == ("refused", "BodyPartExamined: found HAND, expected CHEST, or none told")
    log = server.log.read_text()
    assert not any(word in log for word in ("Doe", STUDY, "right", "Traceback"))
    assert "pacs: a study: 5 objects stored in" in log
    assert "pacs: a study: refused for its BodyPartExamined" in log
    figures = server.figures()
    assert figures["siimdet_pacs_up"] == 1
    assert figures['siimdet_pacs_studies_total{outcome="stored"}'] == 1
    assert figures['siimdet_pacs_studies_total{outcome="refused"}'] == 1


@pytest.mark.parametrize("mode", ["hold", "deaf"])
def test_killed_while_it_stores_it_stores_once_after_the_next_start(watch, archive, film, states, eventually, mode):
    archive.store(film(STUDY, 1))
    archive.relay.held.clear()
    archive.relay.mode = mode
    server = watch()
    assert archive.relay.held.wait(60)
    if mode == "deaf":  # the archive has all of it, and nobody has heard so
        eventually(lambda: archive.results(STUDY) == RESULTS)
    server.kill()
    archive.relay.mode = "open"
    assert states()[STUDY][0] == "open"
    assert archive.results(STUDY) == (RESULTS if mode == "deaf" else [])
    again = watch()
    eventually(lambda: states()[STUDY][0] == "stored")
    time.sleep(3 * INTERVAL)
    assert archive.results(STUDY) == RESULTS
    assert ("its results were there" in again.log.read_text()) == (mode == "deaf")


@pytest.mark.parametrize("seconds", [2, pytest.param(60, marks=pytest.mark.slow)], ids=["a moment", "a minute"])
def test_an_archive_that_is_down_for_a_while_loses_nothing(watch, archive, film, states, eventually, seconds):
    archive.store(film(STUDY, 1))
    archive.relay.held.clear()
    archive.relay.mode = "hold"
    server = watch()
    assert archive.relay.held.wait(60)
    # The results are made, and the archive goes down before it has them.
    archive.server.stop()
    archive.relay.hang_up()
    archive.relay.mode = "open"
    time.sleep(seconds)
    assert server.figures()["siimdet_pacs_up"] == 0
    archive.server.start()
    archive.await_start()
    archive.store(film("1.2.826.0.1.9", 1))
    eventually(
        lambda: len(states()) == 2 and all(state == "stored" for state, _ in states().values()), 2 * seconds + 60
    )
    assert archive.results(STUDY) == archive.results("1.2.826.0.1.9") == RESULTS
    said = [line for line in server.log.read_text().splitlines() if "answers" in line or "tried again" in line]
    assert ["answers" in line for line in said] == [True, False, True]
