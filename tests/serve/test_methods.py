"""HEAD answers as GET without a body, and a path that is there refuses other methods by 405."""

import pytest

pytestmark = pytest.mark.timeout(180)


@pytest.fixture(scope="module")
def study(running, radiograph) -> str:
    """Path of a study that is done."""
    return f"/api/predict/{running.post(radiograph.read_bytes()).json()['id']}"


@pytest.mark.parametrize("path", ["/healthz", "/metrics", "/api/models", "/openapi.json", "/", "/none"])
def test_head_is_get_without_a_body(running, path):
    same_as_get(running, path)


@pytest.mark.parametrize(
    "path",
    ["", "/events", "/images/0", "/images/0/heatmap?class=typical", "/report.json", "/report.csv", "/report.dcm"],
)
def test_head_of_a_study(running, study, path):
    same_as_get(running, study + path)


def same_as_get(server, path):
    told, head = server.get(path), server.ask("HEAD", path)
    assert (head.status_code, head.content) == (told.status_code, b"")
    # Figures change, and a report is made anew each time.
    anew = {"content-length", "etag", "last-modified"}
    changes = {"date"} | (anew if path == "/metrics" or path.endswith((".csv", ".dcm")) else set())
    kept = [{name: value for name, value in each.headers.items() if name not in changes} for each in (told, head)]
    assert kept[0] == kept[1]


def test_head_of_a_study_that_waits_does_not_wait(serve, runtime, png):
    server = serve()
    with runtime._lock:
        key = server.post(png(), wait=0).json()["id"]
        head = server.ask("HEAD", f"/api/predict/{key}/events")
    assert (head.status_code, head.headers["content-type"]) == (200, "text/event-stream; charset=utf-8")


@pytest.mark.parametrize("built", [True, False])
def test_another_method_of_a_path_is_refused_with_those_it_has(serve, tmp_path, built):
    if built:
        (tmp_path / "index.html").write_text("<title>viewer</title>")
    server = serve(static=tmp_path)
    for method, path, allowed in (
        ("GET", "/api/predict", "POST"),
        ("HEAD", "/api/predict", "POST"),
        ("PUT", "/api/predict/none", "DELETE, GET, HEAD"),
        ("POST", "/healthz", "GET, HEAD"),
    ):
        answer = server.ask(method, path)
        assert (answer.status_code, answer.headers.get("allow")) == (405, allowed), (method, path)
    assert server.get("/api/nothing").status_code == 404
    assert server.ask("HEAD", "/").status_code == 200
