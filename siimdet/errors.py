"""Errors for users: one line that names the file, the field, what was found and what was expected.

The command line prints a `UserError` without a traceback and exits with 2. Everything else that
escapes is our own fault: it keeps its traceback and exits with 1.
"""

from pathlib import Path

_SHOWN = 200
"""Characters of a file that an error shows."""


class UserError(Exception):
    """Something the user can mend: a path, a table, a config, an image."""

    def __init__(self, file: Path | str, field: str, *, found: object, expected: object) -> None:
        self.file = _one_line(file)
        self.field = _one_line(field)
        self.found = _one_line(found) or "nothing"
        self.expected = _one_line(expected) or "nothing"
        super().__init__(f"{self.file}: {self.reason}")

    @property
    def reason(self) -> str:
        """The message without the file: what failures.csv records beside the path."""
        return f"{self.field}: found {self.found}, expected {self.expected}"

    def __reduce__(self):
        # Conversion workers send errors back by pickle, which would call __init__ with the message alone.
        return _rebuild, (type(self), self.file, self.field, self.found, self.expected)


class ConfigError(UserError):
    """A config file or an override that does not fit the schema."""


class SourceError(UserError):
    """A raw label table or directory that is not what the source publishes."""


class ImageError(UserError):
    """An image that cannot be read, or must not be."""


class DatasetError(UserError):
    """A converted data set that is incomplete or broken."""


class RunError(UserError):
    """A training run that is incomplete, broken or of another kind than asked for."""


class FusionError(UserError):
    """Predictions that cannot be fused with each other."""


class SubmissionError(UserError):
    """A submission that the competition's scorer would refuse."""


class MissingExtra(UserError):
    """A command that needs an optional dependency which is not installed."""

    def __init__(self, package: str, extra: str) -> None:
        super().__init__(
            package, "import", found="not installed", expected=f"the extra `{extra}`: pip install 'siimdet[{extra}]'"
        )

    def __reduce__(self):
        return _rebuild_missing, (self.file, self.expected)


def shown(value: object) -> str:
    """What an error shows of a file's own text or value: its beginning, for a file may be one line of megabytes."""
    text = str(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."


def _one_line(value: object) -> str:
    return " ".join(line.strip() for line in str(value).splitlines() if line.strip())


def _rebuild(kind: type[UserError], file: str, field: str, found: str, expected: str) -> UserError:
    return kind(file, field, found=found, expected=expected)


def _rebuild_missing(package: str, expected: str) -> MissingExtra:
    return MissingExtra(package, expected.split("`")[1])
