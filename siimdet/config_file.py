"""Reading a config: YAML file, then `a.b=c` overrides from the command line, then every check in one pass."""

import difflib
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_args

import yaml
from pydantic import BaseModel, TypeAdapter, ValidationError

from siimdet.config import AnyConfig, AnyTraining, Coupling, PhasedTraining, PseudoLabels, Strict
from siimdet.errors import ConfigError

_SCHEMA: TypeAdapter[Any] = TypeAdapter(AnyConfig)


def load_config(path: Path, overrides: Sequence[str] = (), *, kinds: Sequence[str]) -> Any:
    """Read a config of one of `kinds`, apply `a.b=c` overrides, check everything in one pass.

    Raises: ConfigError, one line that lists every field that does not fit.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(path, "file", found=_reason(error), expected="a readable YAML file") from None
    tree = _parse(text, path, "content")
    if not isinstance(tree, dict):
        raise ConfigError(path, "content", found=type(tree).__name__, expected="a mapping of keys to values")
    flat = "phases" not in tree
    for override in overrides:
        _apply(tree, override, path)
    if tree.get("kind") not in kinds:
        raise ConfigError(path, "kind", found=repr(tree.get("kind")), expected=" or ".join(kinds))
    try:
        return _SCHEMA.validate_python(tree)
    except ValidationError as error:
        raise _explain(error, path, flat=flat) from None


def dump_config(config: BaseModel) -> str:
    """The resolved config as YAML, every default written out."""
    # In ASCII: some marks that PyYAML writes as they are, U+0085 for one, it reads back as line ends.
    return yaml.dump(config.model_dump(mode="json"), Dumper=_Dumper, sort_keys=False)


class _Loader(yaml.SafeLoader):
    """Scalars as in YAML 1.2: PyYAML itself reads `1e-4` as a string and `no` as False. A key twice is an error."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [self.construct_object(key, deep=True) for key, _ in node.value]
        twice = next((key for key in keys if keys.count(key) > 1), None)
        if twice is not None:
            raise yaml.constructor.ConstructorError(None, None, f"key {twice!r} twice", node.start_mark)
        return super().construct_mapping(node, deep)


class _Dumper(yaml.SafeDumper):
    """Quotes what our reader takes for a number as well: PyYAML itself writes the string `1e-4` without quotes."""


# PyYAML matches from the start only: without the $, `true-net` would be a bool and `2.5-run` a number.
_BOOL, _BOOL_PATTERN = "tag:yaml.org,2002:bool", re.compile(r"(?:true|false)$")
_FLOAT, _FLOAT_STARTS = "tag:yaml.org,2002:float", list("-+.0123456789")
_FLOAT_PATTERN = re.compile(r"(?:[-+]?(\d+\.\d*|\.\d+|\d+(?=[eE]))([eE][-+]?\d+)?|[-+]?\.inf|\.nan)$", re.ASCII)
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag not in (_BOOL, _FLOAT)]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(_BOOL, _BOOL_PATTERN, list("tf"))
_Loader.add_implicit_resolver(_FLOAT, _FLOAT_PATTERN, _FLOAT_STARTS)
_Dumper.add_implicit_resolver(_FLOAT, _FLOAT_PATTERN, _FLOAT_STARTS)


def _parse(text: str, path: Path, field: str) -> Any:
    try:
        return yaml.load(text, Loader=_Loader)  # a SafeLoader
    except (yaml.YAMLError, ValueError) as error:
        raise ConfigError(path, field, found=_reason(error), expected="valid YAML") from None


def _apply(tree: dict[str, Any], override: str, path: Path) -> None:
    key, equals, value = override.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise ConfigError(path, f"override {override!r}", found="no key and value", expected="KEY=VALUE or A.B=VALUE")
    phases = tree.get("phases") or {}
    if parts[0] == "phases" and len(parts) > 1 and isinstance(phases, dict) and parts[1] not in phases:
        expected = " or ".join(map(str, phases)) or "none: the file is one phase, whose keys stand at the top"
        raise ConfigError(path, f"override {override!r}", found=f"phase {parts[1]}", expected=expected)
    node = tree
    for part in parts[:-1]:
        if node.get(part) is None:
            node[part] = {}
        node = node[part]
        if not isinstance(node, dict):
            raise ConfigError(
                path, f"override {override!r}", found=f"{part} is a {type(node).__name__}", expected="a mapping"
            )
    node[parts[-1]] = _parse(value, path, f"override {override!r}")
    if parts[0] in _phase_keys(_schema(tree.get("kind"))) and isinstance(tree.get("phases"), dict):
        for phase in tree["phases"].values():
            _forget(phase, parts)


def _forget(node: Any, parts: Sequence[str]) -> None:
    """Drop a phase's own value, so that the one that was given for all phases holds."""
    for part in parts[:-1]:
        node = node.get(part) if isinstance(node, dict) else None
    if isinstance(node, dict):
        node.pop(parts[-1], None)


def _explain(error: ValidationError, path: Path, *, flat: bool) -> ConfigError:
    problems = []
    for detail in error.errors():
        place = detail["loc"][1:]
        if flat and place[:1] == ("phases",) and len(place) > 2:  # a file of one phase never names it
            place = place[2:]
        where = ".".join(str(part) for part in place) or "content"
        if detail["type"] == "extra_forbidden":
            problems.append(f"{where}: found a key that is not in the schema, expected {_known(detail)}")
        elif detail["type"] == "missing":
            problems.append(f"{where}: found nothing, expected a value")
        else:
            message = detail["msg"].removeprefix("Value error, ").removeprefix("Input should be ")
            found = "" if message.startswith("found") else f"found {detail['input']!r}, expected "
            problems.append(f"{where}: {found}{message}")
    first, _, rest = problems[0].partition(": found ")
    found, _, expected = rest.partition(", expected ")
    more = "".join(f"; {problem}" for problem in problems[1:])
    return ConfigError(path, first, found=found, expected=expected + more)


def _known(detail: Any) -> str:
    """The keys that the schema has where an unknown one was found, the nearest first."""
    schema: Any = _schema(detail["loc"][0])
    names = list(schema.model_fields)
    if len(detail["loc"]) == 2:
        names += _phase_keys(schema)
    parts = iter(detail["loc"][1:-1])
    for part in parts:
        nested = schema.model_fields[part].annotation
        if part == "phases":
            schema, _ = schema.phase_type, next(parts)
        else:
            schema = next(c for c in (nested, *get_args(nested)) if isinstance(c, type) and issubclass(c, Strict))
        names = list(schema.model_fields)
    near = difflib.get_close_matches(str(detail["loc"][-1]), names, n=1)
    return f"{near[0]} (perhaps)" if near else "one of " + ", ".join(names)


def _schema(kind: Any) -> type[Strict] | None:
    """The class of a kind of config."""
    schemas: tuple[Any, ...] = (*get_args(AnyTraining), Coupling, PseudoLabels)
    return next((c for c in schemas if get_args(c.model_fields["kind"].annotation)[0] == kind), None)


def _phase_keys(schema: Any) -> list[str]:
    """What stands in the phases of a schema, or beside them."""
    return list(schema.phase_type.model_fields) if schema and issubclass(schema, PhasedTraining) else []


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        return error.strerror or type(error).__name__
    return str(error)
