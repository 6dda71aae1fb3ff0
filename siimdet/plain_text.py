"""Results as plain text, for people: what a command prints without --json."""

from typing import Any


def counted(values: dict[str, Any]) -> dict[str, Any]:
    """The values with the lengths of lists in place of the lists."""
    return {
        key: counted(value) if isinstance(value, dict) else len(value) if isinstance(value, list) else value
        for key, value in values.items()
    }


def indented(values: dict[str, Any], level: int = 0) -> str:
    """Nested values as lines of name and value; a dash for None."""
    lines = []
    for key, value in values.items():
        if isinstance(value, dict):
            lines += [f"{'  ' * level}{key}", indented(value, level + 1)]
        else:
            shown = "-" if value is None else f"{value:.6f}" if isinstance(value, float) else value
            lines.append(f"{'  ' * level}{key:<{24 - 2 * level}} {shown}")
    return "\n".join(lines)
