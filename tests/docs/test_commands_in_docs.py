"""What the docs tell people to type must exist: commands, options, configs, overrides, links."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from siimdet.cli import app, spread
from siimdet.config import AnyTraining, Augment, Coupling, NoneExponents, OpacityExponents, Optimiser, Schedule
from siimdet.config_file import load_config

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md")])
KINDS = {
    "train-backbone": ("backbone",),
    "train-detector": ("faster_rcnn", "yolo"),
    "train-study": ("study",),
}
COMMANDS: dict[str, Any] = typer.main.get_command(app).commands  # type: ignore[attr-defined]

_BLOCK = re.compile(r"^```(?P<language>\w*)\n(?P<body>.*?)^```$", re.DOTALL | re.MULTILINE)
_LINK = re.compile(r"\[[^\]]+\]\((?P<target>[^)\s]+)\)")
_CONFIG = re.compile(r"configs/[\w/.]+")


def blocks(page: Path, language: str | None = None) -> Iterator[str]:
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        if language is None or block["language"] == language:
            yield block["body"]


def command_lines() -> list[Any]:
    lines = []
    for page in PAGES:
        for body in blocks(page):
            for line in body.replace("\\\n", " ").splitlines():
                if line.startswith("siimdet "):
                    lines.append(pytest.param(shlex.split(line)[1:], id=f"{page.relative_to(ROOT)}: {line[8:70]}"))
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


def test_every_config_key_is_described():
    train, submit = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("train.md", "submit.md"))
    for schema in (*get_args(AnyTraining), Augment, Optimiser, Schedule):
        lacking = [key for key in schema.model_fields if f"`{key}" not in train]
        assert not lacking, f"train.md lacks {lacking} of {schema.__name__}"
    for key in (*Coupling.model_fields, *OpacityExponents.model_fields, *NoneExponents.model_fields):
        assert key in submit, f"submit.md lacks {key}"


def test_python_examples_run():
    examples = [body for page in PAGES for body in blocks(page, "python")]
    assert examples
    for body in examples:
        exec(compile(body, "example", "exec"), {})


def anchors(page: Path) -> set[str]:
    """Anchors of a page's headings, as GitHub makes them."""
    text = _BLOCK.sub("", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
