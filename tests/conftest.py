"""Fixtures that every folder of tests shares."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

CHROMIUM = (
    *("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
"""Root has no sandbox; the rest keeps the browser itself from asking for anything outside."""


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real radiographs and label tables, beside the checkout."""
    folder = Path(__file__).parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no real data: the folder ../shared/data is missing")
    return folder


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """The system's Chromium, headless; where it is missing the test is skipped, or fails if one is required."""
    found = shutil.which("chromium")
    if found is None and "SIIMDET_REQUIRE_BROWSER" in os.environ:
        pytest.fail("SIIMDET_REQUIRE_BROWSER is set, but there is no chromium on the path")
    if found is None:
        pytest.skip("no browser: chromium is missing")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=found, args=list(CHROMIUM))
        yield browser
        browser.close()
