"""From Python, as in a notebook: strings do where paths are taken."""

from pathlib import Path

from siimdet.report.evaluation import write_evaluation
from siimdet.report.evaluation.gather import gather
from siimdet.submission.evaluate import check_file, evaluate_file
from siimdet.submission.truth_files import TruthFiles

TABLES = {
    "image.csv": ("id,boxes,label,StudyInstanceUID", "i_image,,,s", "j_image,,,t"),
    "study.csv": (
        "id,Negative for Pneumonia,Typical Appearance,Indeterminate Appearance,Atypical Appearance",
        *("s_study,1,0,0,0", "t_study,0,1,0,0"),
    ),
    "submission.csv": (
        "id,PredictionString",
        *("s_study,negative .9 0 0 1 1", "t_study,typical .8 0 0 1 1"),
        *("i_image,none .9 0 0 1 1", "j_image,none .2 0 0 1 1"),
    ),
}


def test_a_file_is_evaluated_by_strings(tmp_path):
    for name, lines in TABLES.items():
        (tmp_path / name).write_text("\n".join(lines) + "\n")
    against = TruthFiles(image_level=str(tmp_path / "image.csv"), study_level=str(tmp_path / "study.csv"))
    assert against.image_level == tmp_path / "image.csv"
    file = str(tmp_path / "submission.csv")
    assert check_file(file, against) == {"valid": True, "rows": 4, "predictions": 4}
    scored = evaluate_file(file, against, bootstrap=100)
    assert (scored.file, scored.figures["mAP"]) == (Path(file), 1)
    write_evaluation(str(tmp_path / "report.html"), gather(scored, against))
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html>")
