"""What stands beside the competition's tables: patients to draw, sizes and sources of images."""

import json

import pytest

from siimdet.cli import run
from siimdet.core.types import ImageSize
from siimdet.submission.evaluate import evaluate_file
from siimdet.submission.judged import NO_CASE
from siimdet.submission.truth_files import TruthFiles

IMAGES = """id,boxes,label,StudyInstanceUID
a_image,"[{'x': 10, 'y': 10, 'width': 30, 'height': 30}]",opacity 1 10 10 40 40,s1
b_image,,none 1 0 0 1 1,s2
c_image,,none 1 0 0 1 1,s3
"""
STUDIES = """id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance
s1_study,0,1,0,0
s2_study,1,0,0,0
s3_study,1,0,0,0
"""
PATIENTS = "patientid,studyid,imageid\np,s1,a\np,s2,b\nq,s3,c\n"
SOURCES = "imageid,width,height,photometric\na,100,80,MONOCHROME1\nb,,,MONOCHROME2\n"
STUDY = "negative .5 0 0 1 1 typical .5 0 0 1 1"
SUBMISSION = f"""id,PredictionString
s1_study,{STUDY}
s2_study,{STUDY}
s3_study,negative .9 0 0 1 1 negative .4 0 0 1 1
a_image,opacity .9 10 10 40 40
b_image,none .8 0 0 1 1
"""


@pytest.fixture
def files(tmp_path):
    """Tables and a submission without a row of image c; `files(patients=TEXT)` replaces one."""

    def write(submission=SUBMISSION, **texts):
        given = {"image_level": IMAGES, "study_level": STUDIES, "patients": PATIENTS, "sources": SOURCES} | texts
        for name, text in given.items():
            (tmp_path / f"{name}.csv").write_text(text)
        (tmp_path / "submission.csv").write_text(submission)
        return tmp_path / "submission.csv", TruthFiles(**{name: tmp_path / f"{name}.csv" for name in given})

    return write


def refusal(capsys, file, against):
    options = [f"--{name.replace('_', '-')}={getattr(against, name)}" for name in ("image_level", "study_level")]
    beside = [f"--patients={against.patients}", f"--sources={against.sources}"]
    assert run(["evaluate", str(file), *options, *beside, "--only-submitted"]) == 2
    return capsys.readouterr().err


def test_cases_have_the_patient_the_size_and_the_source_of_the_tables(files):
    judged = evaluate_file(*files(), only_submitted=True).judged
    assert [(case.image_id, case.study_id, case.patient_id, case.size) for case in judged.cases] == [
        ("a", "s1", "p", ImageSize(100, 80)),
        ("b", "s2", "p", None),
    ]
    assert [dict(case.source) for case in judged.cases] == [
        {"photometric": "MONOCHROME1"},
        {"photometric": "MONOCHROME2"},
    ]
    assert (judged.owners, judged.unit) == (("p", "p", "q", "p", "p"), "patient")


def test_columns_are_those_of_the_submission(files):
    judged = evaluate_file(*files(), only_submitted=True).judged
    assert judged.boxes is not None and judged.classes is not None
    assert judged.boxes.ids == ("s1_study", "s2_study", "s3_study", "a_image", "b_image")
    assert judged.boxes.case_of.tolist() == [0, 1, NO_CASE, 0, 1]
    assert sorted(zip(judged.boxes.truth.images.tolist(), judged.boxes.truth.class_ids.tolist(), strict=True)) == [
        *((0, 1), (1, 0), (2, 0), (3, 5), (4, 4)),
    ]
    assert judged.classes.ids == ("s1", "s2", "s3")
    assert judged.classes.probabilities.tolist() == [[0.5, 0.5, 0, 0], [0.5, 0.5, 0, 0], [0.9, 0, 0, 0]]
    assert judged.classes.truth.tolist() == [[0, 1, 0, 0], [1, 0, 0, 0], [1, 0, 0, 0]]


def test_patients_are_drawn_where_the_tables_tell_them(files, capsys):
    file, against = files()
    drawn = evaluate_file(file, against, only_submitted=True, bootstrap=100).as_dict()["bootstrap"]
    assert (drawn["unit"], drawn["units"]) == ("patient", 2)
    alone = TruthFiles(image_level=against.image_level, study_level=against.study_level)
    drawn = evaluate_file(file, alone, only_submitted=True, bootstrap=100).as_dict()["bootstrap"]
    assert (drawn["unit"], drawn["units"]) == ("study", 3)


def test_a_box_must_lie_inside_an_image_of_known_size(files, capsys):
    wide = SUBMISSION.replace("10 10 40 40", "10 10 40 81")
    assert "expected a box inside its 100x80 image" in refusal(capsys, *files(wide))
    assert run(["evaluate", *_tables(files(wide, sources="image_id\na\n"))]) == 0


def _tables(files):
    file, against = files
    return [
        str(file),
        f"--image-level={against.image_level}",
        f"--study-level={against.study_level}",
        "--only-submitted",
    ]


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"patients": "patientid,studyid,imageid\np,s1,a\np,s2,b\n"}, ("line 4, 's3_study'", "patients.csv lacks")),
        ({"patients": "patientid,studyid\np,s1\n"}, ("patients.csv", "imageid")),
        ({"sources": "width,height\n1,1\n"}, ("sources.csv: header", "width, height", "image_id")),
        ({"sources": "image_id,width,height\na,9,9\na,9,9\n"}, ("sources.csv:3: image_id", "a again")),
        ({"sources": "image_id,width,height\na,9,0\n"}, ("sources.csv:2: width, height", "'9', '0'")),
        ({"sources": "image_id,width,height\na,9,\n"}, ("sources.csv:2: width, height", "'9', ''")),
    ],
)
def test_what_does_not_fit_is_one_line(files, capsys, texts, words):
    said = refusal(capsys, *files(**texts))
    assert said.count("\n") == 1
    assert all(word in said for word in words), said


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--patients=p.csv"], ("--patients: found --dataset, expected label tables",)),
        (["--sources=s.csv"], ("--sources: found --dataset, expected label tables",)),
        (["--sample=s.csv"], ("--sample: found no --check-only", "a sample has no truth")),
        (["--sample=s.csv", "--check-only", "--split=val"], ("--split: found --sample, which names the images",)),
        (["--boxes=b.json"], ("--boxes", "no --report")),
        (["--blanked=b.csv"], ("--blanked", "no --report")),
        (["--check-only", "--report=r.html"], ("--report", "--check-only")),
    ],
)
def test_options_that_do_nothing_are_refused(capsys, options, words):
    assert run(["evaluate", "submission.csv", "--dataset=data", *options]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_split_beside_label_tables_is_refused(files, capsys):
    assert run(["evaluate", *_tables(files()), "--split=val"]) == 2
    assert "submission.csv: --split: found label tables, which have no splits" in capsys.readouterr().err


def test_check_only_takes_tables_and_what_stands_beside_them(files, capsys):
    file, against = files()
    options = [*_tables((file, against)), f"--sources={against.sources}", "--check-only", "--json"]
    assert run(["evaluate", *options]) == 0
    assert json.loads(capsys.readouterr().out) == {"valid": True, "rows": 5, "predictions": 8}
