"""Whether everybody can read and work the viewer, and how soon it is there."""

import io
import time
from http.client import HTTPConnection
from urllib.parse import urlsplit

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from siimdet.serve.app import STATIC

pytestmark = [pytest.mark.browser, pytest.mark.timeout(180)]

NAME_OF_FOCUS = """() => {
    const at = document.activeElement;
    return at.id || at.name || at.dataset.action || at.dataset.save || at.type || at.tagName;
}"""
FIRST_PAINT = "performance.getEntriesByName('first-contentful-paint')[0].startTime"
SHOWN_AFTER = """() => {
    const place = document.querySelector('#viewport'), input = document.querySelector('#files input');
    input.addEventListener('change', () => { window.chosen = performance.now(); }, { capture: true });
    new MutationObserver(() => {
        if (place.dataset.state === 'shown') window.shownAfter = performance.now() - window.chosen;
    }).observe(place, { attributes: true });
}"""


def test_everything_is_reached_by_keyboard(open_viewer, radiograph):
    viewer = open_viewer()
    viewer.show(radiograph)
    viewer.run()
    viewer.page.evaluate("document.activeElement.blur()")
    reached = set()
    for _ in range(40):
        viewer.page.keyboard.press("Tab")
        reached.add(viewer.page.evaluate(NAME_OF_FOCUS))
    assert reached >= {
        *("gesture", "zoom-in", "zoom-out", "invert", "reset", "viewport", "file", "detector", "run"),
        *("checkbox", "range", "TR", "png", "json", "csv", "dcm", "SUMMARY"),
    }
    viewer.page.focus("#viewport")
    told = viewer.at("#reading").inner_text()
    viewer.page.keyboard.press("Shift+ArrowRight")
    expect(viewer.at("#reading")).not_to_have_text(told)
    viewer.page.keyboard.press("+")
    expect(viewer.at("#reading")).to_contain_text("zoom 1.25x")


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_nothing_is_in_the_way_of_a_reader(open_viewer, radiograph, axe, width, scheme):
    viewer = open_viewer(width=width, scheme=scheme)
    assert barriers(viewer.page, axe) == []
    viewer.show(radiograph)
    viewer.run()
    viewer.page.click("#keys summary")
    viewer.rows.first.focus()
    assert barriers(viewer.page, axe) == []
    assert viewer.page.evaluate("document.scrollingElement.scrollWidth") <= width
    viewer.page.evaluate("window.scrollTo(0, document.body.scrollHeight)")
    notice = viewer.at("#notice")
    expect(notice).to_have_text("Not for diagnosis")
    assert notice.bounding_box()["y"] >= 0
    shade = np.asarray(Image.open(io.BytesIO(viewer.page.screenshot())).convert("L"))[-5, 5]
    assert shade < 40 if scheme == "dark" else shade > 200


def barriers(page: Page, axe: str) -> list[str]:
    """What axe-core finds serious or critical."""
    page.evaluate(axe)
    found = page.evaluate("() => axe.run().then(({ violations }) => violations)")
    return [f"{each['id']}: {each['nodes'][0]['html']}" for each in found if each["impact"] in ("serious", "critical")]


def test_a_reader_gives_the_token_once(open_viewer, serve, radiograph, axe):
    address = serve(token="s3cret/ü", static=STATIC).address
    viewer = open_viewer(address=address, refused=2)
    assert barriers(viewer.page, axe) == []
    token, told = viewer.page.get_by_label("Token"), viewer.page.get_by_role("alert")
    expect(told).to_have_text("This server asks for a token.")
    expect(token).to_be_focused()
    token.fill("wrong")
    token.press("Enter")
    expect(told).to_have_text("This is not the server's token.")
    token.fill("s3cret/ü")
    token.press("Enter")
    viewer.show(radiograph)
    assert viewer.page.url == f"{address}/"  # the token does not stay in the address
    viewer.run()
    assert viewer.saved("json")[1]
    viewer.page.reload()
    viewer.show(radiograph)
    assert "s3cret" not in str(viewer.page.context.cookies()) + viewer.page.evaluate("document.cookie")


def test_a_page_whose_token_is_gone_says_so(open_viewer, serve, radiograph):
    address = serve(token="s3cret", static=STATIC).address
    viewer = open_viewer(address=f"{address}/?token=s3cret", refused=1)
    viewer.show(radiograph)
    viewer.page.context.clear_cookies()
    viewer.page.click("#run")
    expect(viewer.at("#refusal")).to_contain_text("A token is needed")


def test_an_empty_page_says_what_to_do(open_viewer):
    for width in (1280, 390):
        viewer = open_viewer(width=width)
        viewer.page.wait_for_selector("#viewport canvas")
        on_top = "at => document.elementFromPoint(at.x + at.width / 2, at.y + at.height / 2).id"
        assert viewer.page.evaluate(on_top, viewer.at("#viewport").bounding_box()) == "empty"
        assert viewer.at("#run").bounding_box()["y"] < 900


@pytest.mark.real_data
def test_page_and_image_are_there_soon(open_viewer, server, twelve_bit):
    first_bytes = [seconds_to_first_byte(server) for _ in range(5)]
    paints, shown = [], []
    for _ in range(3):
        viewer = open_viewer()
        viewer.page.wait_for_timeout(1000)
        paints.append(viewer.page.evaluate(FIRST_PAINT))
        viewer.page.evaluate(SHOWN_AFTER)
        viewer.show(twelve_bit)
        shown.append(viewer.page.evaluate("window.shownAfter"))
    found = f"first byte {1000 * np.median(first_bytes):.0f} ms, first paint {np.median(paints):.0f} ms, "
    print(found + f"image {np.median(shown):.0f} ms after it was chosen")
    assert np.median(first_bytes) <= 0.05
    assert np.median(paints) <= 1500
    assert np.median(shown) <= 1000


def seconds_to_first_byte(server: str) -> float:
    address = urlsplit(server)
    connection = HTTPConnection(str(address.hostname), address.port)
    start = time.perf_counter()
    connection.request("GET", "/")
    connection.getresponse().read(1)
    seconds = time.perf_counter() - start
    connection.close()
    return seconds
