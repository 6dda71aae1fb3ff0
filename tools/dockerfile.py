"""What a Dockerfile and its .dockerignore say: instructions by stage, and which files of the context are sent.

Source: docs of the Dockerfile format and of .dockerignore, the part that ours uses. Anything else is refused, for a
step that is read wrongly would be tested wrongly.
"""

import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

KNOWN = {
    **dict.fromkeys(("ARG", "CMD", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "RUN", "USER", "VOLUME", "WORKDIR"), ()),
    **{"COPY": ("chown", "from"), "HEALTHCHECK": ("interval", "retries", "start-period", "timeout")},
}
"""Instructions, and the flags that each may have."""
_FLAG = re.compile(r"--([a-z-]+)(?:=(\S+))?\s+")
_VARIABLE = re.compile(r"\$(?:(\w+)|\{([^}]*)\})")


@dataclass(frozen=True, slots=True)
class Instruction:
    """`name` in capitals, `flags` such as `--from=wheel`, `rest` as one line; `line` counts from 1."""

    line: int
    name: str
    flags: Mapping[str, str]
    rest: str

    def words(self, variables: Mapping[str, str] | None = None) -> list[str]:
        """The rest as a JSON array's strings, or as words, with variables put in."""
        if self.rest.startswith("["):
            return json.loads(self.rest)
        return [expand(word, variables or {}) for word in shlex.split(self.rest)]

    def after(self, name: str) -> list[str]:
        """The words of an instruction in an instruction: what HEALTHCHECK runs, after its CMD."""
        return Instruction(self.line, name, {}, self.rest.removeprefix(name).strip()).words()


@dataclass(frozen=True, slots=True)
class Stage:
    """An image on the way: its `base`, and what is done to it. The name is empty where none is given."""

    name: str
    base: str
    instructions: tuple[Instruction, ...]

    def last(self, name: str) -> Instruction:
        """The one that holds. Raises: ValueError if there is none."""
        for instruction in reversed(self.instructions):
            if instruction.name == name:
                return instruction
        raise ValueError(f"stage {self.name or self.base}: no {name}")


def parse(text: str) -> list[Stage]:
    """The stages of a Dockerfile. Raises: ValueError with the line of what is not known here."""
    stages: list[tuple[str, str, list[Instruction]]] = []
    for number, line in _logical_lines(text):
        name, _, rest = line.partition(" ")
        name, rest, flags = name.upper(), rest.strip(), {}
        if name not in KNOWN or (name != "FROM" and not stages):
            raise ValueError(f"Dockerfile:{number}: found {name}, expected {', '.join(sorted(KNOWN))}, first FROM")
        while flag := _FLAG.match(rest):
            if flag[1] not in KNOWN[name] or flag[2] is None:
                raise ValueError(f"Dockerfile:{number}: {name}: found --{flag[1]}, expected {KNOWN[name] or 'no flag'}")
            flags[flag[1]], rest = flag[2], rest[flag.end() :]
        if name == "FROM":
            base, *named = rest.split()
            stages.append((named[1] if named else "", base, []))
        else:
            stages[-1][2].append(Instruction(number, name, flags, rest))
    if not stages:
        raise ValueError("Dockerfile: found no FROM")
    return [Stage(name, base, tuple(instructions)) for name, base, instructions in stages]


def expand(text: str, variables: Mapping[str, str]) -> str:
    """`$NAME` and `${NAME}` by their values. Raises: KeyError for an unknown one, such as `${NAME:-default}`."""
    return _VARIABLE.sub(lambda found: variables[found[1] or found[2]], text)


def assignments(instruction: Instruction, variables: Mapping[str, str]) -> dict[str, str]:
    """Names and values of an ENV or an ARG; an ARG without a default is left out."""
    pairs = (word.partition("=") for word in instruction.words(variables))
    return {name: value for name, equals, value in pairs if equals}


def read_ignore(text: str) -> list[tuple[re.Pattern[str], bool]]:
    """The patterns of a .dockerignore, in order, and whether each lets in again what it matches.

    Raises: ValueError for a pattern of anything but names, `*`, `?` and `**/`.
    """
    lines = (line.strip() for line in text.splitlines())
    return [(_pattern(line.lstrip("!")), line.startswith("!")) for line in lines if line and not line.startswith("#")]


def is_sent(path: str, patterns: Sequence[tuple[re.Pattern[str], bool]]) -> bool:
    """Whether a file of the context is sent: the last pattern that matches it or a folder above it decides."""
    parts = path.split("/")
    places = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    sent = True
    for pattern, back in patterns:
        if any(pattern.fullmatch(place) for place in places):
            sent = back
    return sent


def sent_below(context: Path, source: str, patterns: Sequence[tuple[re.Pattern[str], bool]]) -> list[str]:
    """Files of the context that are `source` or lie below it, as paths from the context, in order."""
    start = context / source
    if start.is_file():
        return [source] if is_sent(source, patterns) else []
    files = (Path(folder, name) for folder, _, names in os.walk(start) for name in names)
    paths = sorted(file.relative_to(context).as_posix() for file in files)
    return [path for path in paths if is_sent(path, patterns)]


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Lines with their continuations, under the number of their first; without comments and blank ones."""
    start, joined = 0, ""
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        start = start if joined else number
        if line.endswith("\\"):
            joined += line[:-1]
            continue
        yield start, (joined + line).strip()
        joined = ""


def _pattern(glob: str) -> re.Pattern[str]:
    if re.search(r"[\[\\]|\*\*(?!/)", glob):
        raise ValueError(f".dockerignore: found {glob}, expected names, *, ? and **/")
    parts = re.split(r"(\*\*/|\*|\?)", glob.strip("/"))
    meanings = {"**/": "(?:.*/)?", "*": "[^/]*", "?": "[^/]"}
    return re.compile("".join(meanings.get(part) or re.escape(part) for part in parts))
