"""Reading a Dockerfile and a .dockerignore, and COPY, on small examples."""

from pathlib import Path

import pytest
from container_image import Image, apply
from dockerfile import Stage, assignments, expand, is_sent, parse, read_ignore, sent_below
from hypothesis import given
from hypothesis import strategies as st

SMALL = """\
# a comment
FROM node:22 AS first
RUN one \\
    # a comment in between

    && two

FROM python:3.11-slim
ARG RUNS="a b"
COPY --from=first --chown=1:2 /x /y
HEALTHCHECK --interval=30s --timeout=5s CMD ["python", "-c", \\
    "one; \\
    two"]
CMD ["serve"]
"""


def test_stages_and_instructions():
    first, second = parse(SMALL)
    assert (first.name, first.base) == ("first", "node:22")
    assert [(step.line, step.name, step.rest) for step in first.instructions] == [(3, "RUN", "one     && two")]
    assert (second.name, second.base) == ("", "python:3.11-slim")
    copy, health = second.last("COPY"), second.last("HEALTHCHECK")
    assert (copy.line, copy.flags, copy.words()) == (10, {"from": "first", "chown": "1:2"}, ["/x", "/y"])
    assert health.after("CMD") == ["python", "-c", "one;     two"]
    assert assignments(second.last("ARG"), {}) == {"RUNS": "a b"}
    with pytest.raises(ValueError, match="stage first: no CMD"):
        first.last("CMD")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("RUN x", "Dockerfile:1: found RUN"),
        ("FROM a\nADD x y", "Dockerfile:2: found ADD"),
        ("FROM a\n\nRUN --mount=type=cache x", "Dockerfile:3: RUN: found --mount, expected no flag"),
        ("FROM --platform=linux/amd64 a", "Dockerfile:1: FROM: found --platform"),
        ("FROM a\nCOPY --link x y", "Dockerfile:2: COPY: found --link"),
        ("# nothing", "found no FROM"),
    ],
)
def test_what_is_not_known_is_refused(text, found):
    with pytest.raises(ValueError, match=found):
        parse(text)


def test_variables():
    assert expand("$A/${B}x", {"A": "1", "B": "2"}) == "1/2x"
    for unknown in ("$B", "${A:-b}"):
        with pytest.raises(KeyError):
            expand(unknown, {"A": "1"})


IGNORE = "# comment\n*\n!src\n!runs/*/model.json\n**/cache\nsrc/deep/*.log\n"


@pytest.mark.parametrize(
    ("path", "sent"),
    [
        ("other.txt", False),
        ("src/a.py", True),
        ("src/cache/a", False),
        ("src/x/cache/a", False),
        ("src/deep/a.log", False),
        ("src/deep/er/a.log", True),
        ("src/cached", True),
        ("runs/a/model.json", True),
        ("runs/a/b/model.json", False),
        ("runs/model.json", False),
    ],
)
def test_last_pattern_decides(path, sent):
    assert is_sent(path, read_ignore(IGNORE)) is sent


@pytest.mark.parametrize("pattern", ["a[bc]", "a/**", "!a**b", "a\\*"])
def test_a_pattern_that_is_not_known_is_refused(pattern):
    with pytest.raises(ValueError, match="dockerignore: found a"):
        read_ignore(f"*\n{pattern}\n")


@given(st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=4))
def test_a_folder_kept_out_keeps_out_all_below_it(parts):
    path = "/".join(parts)
    assert is_sent(path, read_ignore("a\n**/b")) == (parts[0] != "a" and "b" not in parts)


def files(root: Path) -> dict[str, str]:
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): path.read_text() for path in found}


@pytest.fixture
def context(tmp_path) -> Path:
    for name in ("src/a.py", "src/cache/b", "runs/yolo/model.json", "runs/yolo/state/last.pt", "src/deep/c"):
        path = tmp_path / "context" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    (tmp_path / "context/.dockerignore").write_text(IGNORE)
    return tmp_path / "context"


def test_files_below_a_source(context):
    patterns = read_ignore(IGNORE)
    assert sent_below(context, "src", patterns) == ["src/a.py", "src/deep/c"]
    assert sent_below(context, "runs/yolo/model.json", patterns) == ["runs/yolo/model.json"]
    assert sent_below(context, "none", patterns) == []


@pytest.mark.parametrize(
    ("runs", "expected"),
    [
        (None, {"models/a.py": "src/a.py", "w/all/a.py": "src/a.py", "w/all/deep/c": "src/deep/c"}),
        ("runs", {"models/yolo/model.json": "runs/yolo/model.json"}),
    ],
)
def test_copied_files(context, tmp_path, runs, expected):
    # chown to whoever runs the test.
    owner = f"{context.stat().st_uid}:{context.stat().st_gid}"
    text = f"FROM a\nARG RUNS=src/a.py\nWORKDIR /w\nCOPY --chown={owner} $RUNS /models/\n"
    text += f"COPY --chown={owner} src all\n" if runs is None else ""
    (stage,) = parse(text)
    image = Image(stage, tmp_path / "root", {"RUNS": runs} if runs else {}, {})
    for step in stage.instructions:
        apply(step, image, context, {})
    assert files(image.root) == expected


def test_copy_from_a_stage_and_refusal(context, tmp_path):
    built = Image(Stage("b", "a", ()), tmp_path / "b", {}, {})
    (built.root / "out").mkdir(parents=True)
    (built.root / "out/x").write_text("x")
    (built.root / "out/link").symlink_to("x")
    (stage,) = parse("FROM a\nCOPY --from=b /out /in\nCOPY secret /in/\n")
    image = Image(stage, tmp_path / "root", {}, {})
    apply(stage.instructions[0], image, context, {"b": built})
    assert files(image.root) == {"in/x": "x", "in/link": "x"} and (image.root / "in/link").is_symlink()
    with pytest.raises(FileNotFoundError, match="Dockerfile:3: nothing of secret is sent"):
        apply(stage.instructions[1], image, context, {})


def test_a_command_has_the_image_s_user_and_environment_alone(tmp_path):
    (stage,) = parse('FROM a\nENV HOME=/s A=$B\nUSER 5:6\nWORKDIR /s\nENTRYPOINT ["x"]\nCMD ["y"]\n')
    image = Image(stage, tmp_path, {}, {"PATH": "/bin", "B": "b"})
    for step in stage.instructions:
        apply(step, image, tmp_path, {})
    assert image.command() == ["x", "y"]
    assert image.command(["z"]) == ["x", "z"]
    start = ["setpriv", "--reuid=5", "--regid=6", "--clear-groups", "--no-new-privs", "--bounding-set=-all"]
    env = ["env", "-i", "--chdir=/s", "PATH=/bin", "B=b", "HOME=/s", "A=b", "C=c"]
    assert image.inside(["run"], {"C": "c"}) == [*start, *env, "run"]
