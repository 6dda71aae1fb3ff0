"""The scripts in `tools/` are no package: tests import them as they import each other. What the docs say of them."""

import re
import sys
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
sys.path.append(str(ROOT / "tools"))


@pytest.fixture(scope="session")
def compose() -> dict:
    """The compose example of the docs."""
    (text,) = re.findall(r"```yml\n(.*?)```", (ROOT / "docs/container.md").read_text(), re.DOTALL)
    return yaml.safe_load(text)
