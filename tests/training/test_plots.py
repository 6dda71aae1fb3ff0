"""The pictures of a run: which files there are, what stands in the result matrix, and that odd names draw."""

import json

import numpy as np
import pytest
from PIL import Image

from siimdet.core.types import LabelSpace
from siimdet.training.journal import append_epoch
from siimdet.training.plots import draw_confusion, draw_curves, draw_predictions, draw_roc_pr, result_matrix

GROUPS = {"loss": ("train_loss", "val_loss"), "score": ("auroc",)}
ODD = LabelSpace("odd", ("a$b$", "_hidden", "COVID-19"))


def size(path):
    """Width and height from a PNG's header, px."""
    data = path.read_bytes()
    assert data[:8] == b"\x89PNG\r\n\x1a\n"
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def journal(run, *phases):
    run.mkdir()
    for phase, epochs in phases:
        for epoch in range(epochs):
            auroc = None if phase == "contrastive" else 0.5 + epoch / 10
            append_epoch(run, {"phase": phase, "epoch": epoch, "train_loss": 1 / (epoch + 1), "auroc": auroc})


def test_one_phase_has_one_picture_per_group(tmp_path):
    journal(tmp_path / "run", ("study", 3))
    draw_curves(tmp_path / "run", GROUPS)
    plots = tmp_path / "run" / "plots"
    assert sorted(path.relative_to(plots).as_posix() for path in plots.rglob("*.png")) == ["loss.png", "score.png"]
    assert size(plots / "loss.png") == (660, 440)


def test_phases_stand_together_and_have_pictures_of_their_own(tmp_path):
    journal(tmp_path / "run", ("supervised", 3), ("contrastive", 2), ("last", 1))
    draw_curves(tmp_path / "run", GROUPS)
    plots = tmp_path / "run" / "plots"
    names = {path.relative_to(plots).as_posix() for path in plots.rglob("*.png")}
    folders = ("", "supervised/", "contrastive/", "last/")
    assert names == {f"{folder}{group}.png" for folder in folders for group in GROUPS}


def test_a_run_without_epochs_draws_empty_axes(tmp_path):
    draw_curves(tmp_path, GROUPS)
    assert size(tmp_path / "plots" / "score.png") == (660, 440)


def test_result_matrix_by_hand():
    # 10 true a: 8 found; 4 true b: 3 found; c is never true and once predicted.
    matrix = result_matrix(np.array([[8, 1, 1], [1, 3, 0], [0, 0, 0]]))
    assert matrix == [
        ["8", "1", "1", "80.0%"],
        ["1", "3", "0", "75.0%"],
        ["0", "0", "0", "-"],
        ["88.9%", "75.0%", "0.0%", "78.6%"],
    ]
    assert result_matrix(np.zeros((2, 2), np.int64)) == [["0", "0", "-"], ["0", "0", "-"], ["-", "-", "-"]]


@pytest.mark.parametrize("names", [ODD.names, ("only",)])
def test_confusion_is_drawn_from_the_journals_lists(tmp_path, names):
    confusion = json.loads(json.dumps(np.arange(len(names) ** 2).reshape(len(names), -1).tolist()))
    draw_confusion(tmp_path / "confusion.png", confusion, names)
    assert size(tmp_path / "confusion.png") == (round(110 * (1.2 * len(names) + 2.5)),) * 2


def test_roc_and_pr_leave_undefined_classes_out(tmp_path):
    truth = np.array([[1, 0, np.nan], [0, 0, np.nan], [1, 0, np.nan]])
    draw_roc_pr(tmp_path, np.array([[0.9, 0.1, 0.5]] * 3), truth, ODD)
    draw_roc_pr(tmp_path / "empty", np.zeros((0, 3)), np.zeros((0, 3)), ODD)
    for name in ("roc.png", "pr.png", "empty/roc.png", "empty/pr.png"):
        assert size(tmp_path / name) == (605, 550)


def tints(path):
    """Whether red or green stands out somewhere."""
    pixels = np.asarray(Image.open(path).convert("RGB")).astype(int)
    difference = pixels[..., 0] - pixels[..., 1]
    return {"red": bool((difference > 80).any()), "green": bool((difference < -80).any())}


def test_predictions_are_green_where_right_and_red_where_wrong(tmp_path):
    images = np.full((9, 16, 16), 255, np.uint8)
    draw_predictions(tmp_path / "right.png", images, ["a$"] * 9, ["a$"] * 9, [0.75] * 9)
    draw_predictions(tmp_path / "wrong.png", images[:1], ["a"], ["b"], [0.75])
    assert size(tmp_path / "right.png")[0] == round(110 * 1.9 * 8)
    assert size(tmp_path / "wrong.png") == (209, 253)
    assert tints(tmp_path / "right.png") == {"red": False, "green": True}
    assert tints(tmp_path / "wrong.png") == {"red": True, "green": False}
