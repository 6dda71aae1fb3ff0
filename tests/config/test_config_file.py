"""Reading configs: YAML 1.2 scalars, overrides, and one line for everything that does not fit."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from siimdet.config_file import dump_config, load_config
from siimdet.errors import ConfigError

CONFIGS = Path(__file__).parents[2] / "configs"
KINDS = ("backbone", "study", "classifier", "faster_rcnn", "retinanet", "fcos", "yolo", "coupling", "pseudo_labels")
BACKBONE = CONFIGS / "demo" / "backbone.yaml"
DETECTOR = CONFIGS / "demo" / "faster_rcnn_siim.yaml"


def load(path: Path = BACKBONE, *overrides: str):
    return load_config(path, overrides, kinds=KINDS)


def refusal(path: Path = BACKBONE, *overrides: str) -> str:
    with pytest.raises(ConfigError) as caught:
        load(path, *overrides)
    line = str(caught.value)
    assert len(line.splitlines()) == 1
    assert line.startswith(f"{path}: ")
    return line.removeprefix(f"{path}: ")


def written(folder: Path, text: str) -> Path:
    path = folder / "config.yaml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("path", sorted(CONFIGS.rglob("*.yaml")), ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_config_loads_and_comes_back_from_its_dump(path, tmp_path):
    config = load(path)
    text = dump_config(config)
    again = load(written(tmp_path, text))
    assert again == config
    assert dump_config(again) == text


def only_phase(config):
    (phase,) = config.phases.values()
    return phase


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(weights=st.text(st.characters(codec="utf-8")), lr=st.floats(1e-12, 1e12))
@example(weights="\x85", lr=1.0)
@pytest.mark.filterwarnings("error")
def test_any_text_and_number_comes_back_from_the_dump(weights, lr, tmp_path):
    demo = load(DETECTOR)
    phase = only_phase(demo)
    phase = phase.model_copy(update={"optimiser": phase.optimiser.model_copy(update={"lr": lr})})
    config = demo.model_copy(update={"weights": weights, "phases": {"faster_rcnn": phase}})
    assert load(written(tmp_path, dump_config(config))) == config


@pytest.mark.parametrize(
    "text", ["1e-4", "no", "on", "Yes", "null", "~", "12", "1.5", "true", "2.5-run", "0x1f", ".inf"]
)
def test_texts_that_look_like_something_else_come_back_as_texts(text, tmp_path):
    config = load().model_copy(update={"weights": text})
    assert load(written(tmp_path, dump_config(config))).weights == text


@pytest.mark.parametrize(
    ("written_as", "value"),
    [
        ("1e-4", 1e-4),
        ("1E-4", 1e-4),
        ("2.5e-3", 2.5e-3),
        ("5e+0", 5.0),
        (".5", 0.5),
        ("1.", 1.0),
        ("+0.5", 0.5),
        ("3", 3.0),
    ],
)
def test_numbers_are_read_as_in_yaml_1_2(written_as, value):
    assert only_phase(load(DETECTOR, f"optimiser.lr={written_as}")).optimiser.lr == value


@pytest.mark.parametrize(
    "text", ["no", "off", "yes", "true-net", "falsehood", "2.5-run", "1e-4x", ".5/run", "1.2.3", "e5"]
)
def test_words_stay_words(text):
    assert load(BACKBONE, f"weights={text}").weights == text


def test_overrides_reach_nested_keys_and_make_absent_ones():
    config = load(
        DETECTOR, "epochs=7", "optimiser.lr=0.5", "augment.affine.p=.5", "augment.affine.rotate=10", "anchor_ratios=[1]"
    )
    phase = only_phase(config)
    assert (phase.epochs, phase.optimiser.lr, config.anchor_ratios) == (7, 0.5, (1.0,))
    assert (phase.augment.affine.p, phase.augment.affine.rotate, phase.augment.affine.shift) == (0.5, 10, 0)
    assert phase.augment.horizontal_flip == 0.5


def test_an_empty_value_is_none_and_the_last_override_wins():
    assert load(BACKBONE, "fold=3", "fold=").fold is None
    assert load(BACKBONE, "fold=3", "fold=4").fold == 4
    assert load(BACKBONE, "weights=a=b").weights == "a=b"


@pytest.mark.parametrize("override", ["epochs", "=3", "a..b=3", ".epochs=3", "epochs.=3", ""])
def test_an_override_without_key_and_value_is_refused(override):
    assert refusal(BACKBONE, override) == (
        f"override {override!r}: found no key and value, expected KEY=VALUE or A.B=VALUE"
    )


def test_an_override_below_a_number_or_of_broken_yaml_is_refused():
    assert refusal(BACKBONE, "epochs.more=3") == "override 'epochs.more=3': found epochs is a int, expected a mapping"
    assert refusal(BACKBONE, "mean=[1, 2").startswith("override 'mean=[1, 2': found while parsing")


def test_an_unknown_key_is_answered_with_the_near_name():
    assert refusal(BACKBONE, "image_siz=64") == (
        "image_siz: found a key that is not in the schema, expected image_size (perhaps)"
    )
    assert refusal(DETECTOR, "augment.horizontal_flop=1").startswith("augment.horizontal_flop: found a key that is not")
    assert "expected horizontal_flip (perhaps)" in refusal(DETECTOR, "augment.horizontal_flop=1")
    affine = refusal(DETECTOR, "augment.affine={p: 1, rotate: 1, zzz: 1}")
    assert affine == "augment.affine.zzz: found a key that is not in the schema, expected one of p, rotate, shift"


def test_every_mistake_is_on_the_one_line():
    line = refusal(BACKBONE, "epochs=0", "optimiser.lr=-1", "imge_size=3", "schedule.name=linear")
    assert line.startswith("epochs: found 0, expected greater than or equal to 1; ")
    assert "optimiser.lr: found -1, expected greater than 0" in line
    assert "schedule.name: found 'linear', expected 'constant', 'cosine_floor', 'one_cycle' or 'step'" in line
    assert "imge_size: found a key that is not in the schema, expected image_size (perhaps)" in line
    assert line.count("; ") == 3


def test_a_missing_key_is_named(tmp_path):
    text = "".join(line for line in BACKBONE.read_text().splitlines(True) if not line.startswith("epochs"))
    assert refusal(written(tmp_path, text)) == "epochs: found nothing, expected a value"


@pytest.mark.parametrize(
    ("path", "override", "line"),
    [
        (DETECTOR, "finest_stage=1", "content: found 4 anchor_sizes, expected 5: one per pyramid level"),
        (DETECTOR, "augment={sharpen: .6, blur: .6}", "augment: found sharpen + blur = 1.2, expected at most 1"),
        (
            CONFIGS / "detector/yolo_siim.yaml",
            "image_size=500",
            "content: found image_size 500, expected a multiple of 32",
        ),
        (BACKBONE, "optimiser.lr=.nan", "optimiser.lr: found nan, expected a finite number"),
        (BACKBONE, "optimiser.weight_decay=.inf", "optimiser.weight_decay: found inf, expected a finite number"),
        (BACKBONE, "seed=-1", "seed: found -1, expected greater than or equal to 0"),
    ],
)
def test_values_that_do_not_go_together_are_refused(path, override, line):
    assert refusal(path, override).startswith(line)


def test_another_kind_than_asked_for_is_refused():
    with pytest.raises(ConfigError, match=r"backbone.yaml: kind: found 'backbone', expected faster_rcnn or yolo$"):
        load_config(BACKBONE, kinds=("faster_rcnn", "yolo"))
    assert refusal(BACKBONE, "kind=[]") == "kind: found [], expected " + " or ".join(KINDS)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("kind: backbone\nepochs: 1\nepochs: 2\n", "key 'epochs' twice"),
        ("kind: backbone\naugment:\n  blur: 1\n  blur: 1\n", "key 'blur' twice"),
        ("- 1\n- 2\n", "content: found list, expected a mapping of keys to values"),
        ("", "content: found NoneType, expected a mapping"),
        ("a: [1\n", "content: found while parsing"),
        ("a: !!python/object/apply:os.system [x]\n", "content: found could not determine a constructor"),
        ("a: 2024-99-99\n", "content: found month must be in 1..12, expected valid YAML"),
    ],
)
def test_broken_files_are_refused(text, line, tmp_path):
    assert line in refusal(written(tmp_path, text))


def test_unreadable_files_are_refused(tmp_path):
    assert refusal(tmp_path / "none.yaml") == "file: found No such file or directory, expected a readable YAML file"
    assert refusal(tmp_path) == "file: found Is a directory, expected a readable YAML file"
    (tmp_path / "latin.yaml").write_bytes(b"kind: \xff")
    assert "expected a readable YAML file" in refusal(tmp_path / "latin.yaml")


@given(
    key=st.sampled_from(["weights", "epochs", "augment", "augment.affine", "optimiser.lr", "kind", "x", "mean"]),
    value=st.text(),
)
def test_whatever_is_typed_gives_a_config_or_one_line(key, value):
    try:
        config = load(DETECTOR, f"{key}={value}")
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
    else:
        assert config.kind == "faster_rcnn"


@given(override=st.text("abk.=[]{}:,'\"1e-&*!~?|>% \n", max_size=20))
def test_hostile_overrides_give_a_config_or_one_line(override):
    try:
        load(DETECTOR, override)
    except ConfigError as error:
        assert len(str(error).splitlines()) == 1
