"""What the docs tell people to type must exist: commands, options, configs, overrides, links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import pytest
import typer

from siimdet.cli import app, spread
from siimdet.config import AnyTraining, ClassifierTraining, Coupling, PseudoLabels, Strict, Training
from siimdet.config_file import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
KINDS = {
    "train-backbone": ("backbone",),
    "train-detector": ("faster_rcnn", "retinanet", "fcos", "yolo"),
    "train-study": ("study",),
    "train-classifier": ("classifier",),
}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_CONFIG = re.compile(r"configs/[\w/.]+")
_COMMAND = re.compile(r"(?:torchrun .* -m )?siimdet (?P<line>.+)")


def blocks(page: Path, language: str | None = None) -> Iterator[str]:
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if language is None or block["language"] == language:
            yield block["body"]


def command_lines() -> list[Any]:
    lines = []
    for page in PAGES:
        for body in blocks(page):
            for line in body.replace("\\\n", " ").splitlines():
                if command := _COMMAND.match(line):
                    words = command["line"]
                    lines.append(pytest.param(shlex.split(words), id=f"{page.relative_to(ROOT)}: {words[:62]}"))
    return lines


def test_every_command_has_an_example():
    shown = {line.values[0][0] for line in command_lines()}
    assert shown == set(COMMANDS)


@pytest.mark.parametrize("arguments", command_lines())
def test_command_line_parses(arguments: list[str]):
    name, *rest = spread(arguments)
    command = COMMANDS[name]
    context = command.make_context(name, list(rest))  # raises for an unknown option, a bad value, a missing one
    if name in KINDS:
        overrides = context.params["overrides"] or ()
        load_config(ROOT / context.params["config"], overrides, kinds=KINDS[name])


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_configs_exist(page: Path):
    text = page.read_text(encoding="utf-8")
    for link in _LINK.finditer(text):
        target, _, anchor = link["target"].partition("#")
        if re.match(r"\w+:", target):
            continue
        file = page.parent / target if target else page
        assert file.exists(), f"link to {target}"
        if anchor:
            assert anchor in anchors(file), f"link to {link['target']}"
    for config in _CONFIG.findall(text):
        assert (ROOT / config.rstrip(".")).exists(), config


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_short(page: Path):
    assert page.name == "CHANGELOG.md" or len(page.read_text(encoding="utf-8").splitlines()) < 120


def test_every_option_is_described():
    for name, command in COMMANDS.items():
        page = ROOT / "docs" / ("train.md" if name in KINDS else f"{name}.md")
        text = page.read_text(encoding="utf-8")
        for option in (o for parameter in command.params for o in parameter.opts if o.startswith("--")):
            assert option == "--help" or option in text, f"{page.name} lacks {option} of {name}"


def described(schema: Any) -> Iterator[tuple[type[Strict], str, tuple[str, ...]]]:
    """Schema, key and choices of every key of a schema and of those within it."""
    inner: list[Any] = []
    for key, field in schema.model_fields.items():
        parts = list(within(field.annotation))
        yield (
            schema,
            key,
            tuple(str(choice) for part in parts if get_origin(part) is Literal for choice in get_args(part)),
        )
        inner += [part for part in parts if isinstance(part, type) and issubclass(part, Strict)]
    for part in inner:
        yield from described(part)


def within(annotation: Any) -> Iterator[Any]:
    """An annotation and all that it is made of."""
    yield annotation
    for part in () if get_origin(annotation) is Literal else get_args(annotation):
        yield from within(part)


def test_keys_are_found_at_every_depth():
    found = {(schema.__name__, key): choices for schema, key, choices in described(ClassifierTraining)}
    assert found["ClassifierTraining", "kind"] == ("classifier",)
    assert found["ClassifierPhase", "epochs"] == ()
    assert found["ClassifierPhase", "amp"] == ("fp16", "bf16")
    assert found["Best", "goal"] == ("highest", "lowest")
    assert found["ResizedCrop", "scale"] == ()


@pytest.mark.parametrize(
    ("page", "schema"),
    [
        *(("train-classifier.md", each) for each in get_args(AnyTraining) if issubclass(each, ClassifierTraining)),
        *(("train-detector.md", each) for each in get_args(AnyTraining) if not issubclass(each, ClassifierTraining)),
        ("submit.md", Coupling),
        ("pseudo-label.md", PseudoLabels),
    ],
)
def test_every_config_key_and_choice_is_described(page: str, schema: type[Strict]):
    own = code_words(ROOT / "docs" / page)
    # What detectors share with classifiers, such as the keys of a schedule, stands on the classifiers' page,
    # what all trainings have on the page of the commands.
    shared = own | code_words(ROOT / "docs" / "train-classifier.md") | code_words(ROOT / "docs" / "train.md")
    for owner, key, choices in described(schema):
        assert key in (own if owner is schema and key not in {"kind", *Training.model_fields} else shared), (
            f"{page} lacks {key} of {owner.__name__}"
        )
        assert set(choices) <= shared, f"{page} lacks a choice of {key} of {owner.__name__}"


def test_yaml_examples_load(tmp_path: Path):
    examples = [(page.name, body) for page in PAGES for body in blocks(page, "yaml")]
    assert examples
    for name, body in examples:
        file = tmp_path / f"{name}.yaml"
        file.write_text(body, encoding="utf-8")
        load_config(file, kinds=[kind for kinds in KINDS.values() for kind in kinds])


def test_python_examples_run():
    examples = [body for page in PAGES for body in blocks(page, "python")]
    assert examples
    for body in examples:
        exec(compile(body, "example", "exec"), {})


def code_words(page: Path) -> set[str]:
    """Names and numbers in a page's inline code."""
    spans = re.findall(r"`([^`]+)`", _BLOCK.sub("", page.read_text(encoding="utf-8")))
    return {word for span in spans for word in re.findall(r"\w+", span)}


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
