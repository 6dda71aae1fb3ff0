"""The pictures in docs/viewer.md: a study in the viewer of a running server, wide and narrow.

    siimdet serve --detector demo/runs/faster_rcnn demo/runs/yolo --study demo/runs/study
    python tools/shoot_viewer.py http://127.0.0.1:8000/ FILE.dcm docs

Writes viewer.webp and viewer-narrow.webp.
"""

import io
import shutil
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Browser, expect, sync_playwright

QUALITY = 70


def main(address: str, file: Path, folder: Path) -> None:
    """Run a file, and write the page as it is then."""
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=shutil.which("chromium"), args=["--no-sandbox"])
        for name, width, height, scheme in (
            ("viewer.webp", 1280, 900, "dark"),
            ("viewer-narrow.webp", 390, 1500, "light"),
        ):
            picture = shoot(browser, address, file, width=width, height=height, scheme=scheme)
            picture.save(folder / name, quality=QUALITY, method=6)
        browser.close()


def shoot(browser: Browser, address: str, file: Path, *, width: int, height: int, scheme) -> Image.Image:
    """The page with the result of a file."""
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)
    page.goto(address)
    page.set_input_files("#files input", str(file))
    page.click("#run")
    expect(page.locator("#status")).to_contain_text("Done", timeout=120_000)
    page.locator("#table tbody tr").first.focus()
    page.evaluate("window.scrollTo(0, 0)")
    page.wait_for_timeout(500)
    picture = Image.open(io.BytesIO(page.screenshot()))
    page.close()
    return picture.convert("RGB")


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]), Path(sys.argv[3]))
