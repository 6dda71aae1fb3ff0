"""The schema of the interface holds: what a server sends is what /openapi.json declares."""

import time
from collections import defaultdict
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from siimdet.core.labels import STUDY
from siimdet.serve.guard import Limits

pytestmark = pytest.mark.timeout(180)

NUMBERS = {"integer": int, "number": (int, float)}
KINDS = {"string": str, "object": dict, "array": list, "boolean": bool, "null": type(None)}
SAID = {"title", "description", "format", "type", "enum", "required", "properties", "additionalProperties", "items"}
STUDY_PATH = "/api/predict/{key}"


class Declared:
    """A server's schema, and what was seen to hold of it: statuses and media types by method and path."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self.schema = schema
        self.seen: dict[tuple[str, str], set[tuple[str, str]]] = defaultdict(set)

    def check(self, method: str, path: str, answer: httpx.Response) -> httpx.Response:
        """Status, media type and content of an answer."""
        media_type = answer.headers["content-type"].partition(";")[0]
        responses = self.schema["paths"][path][method]["responses"]
        assert str(answer.status_code) in responses, (method, path, answer.status_code, answer.text)
        content = responses[str(answer.status_code)]["content"]
        assert media_type in content, (method, path, media_type)
        if media_type == "application/json":
            self.fits(answer.json(), content[media_type]["schema"])
        else:
            assert content[media_type]["schema"]["type"] == "string"
        self.seen[method, path].add((str(answer.status_code), media_type))
        return answer

    def fits(self, value: object, schema: dict[str, Any]) -> None:
        """A value is what the schema says, and nothing beside."""
        if "$ref" in schema:
            schema = self.schema["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "anyOf" in schema:
            kind = type(value).__name__.replace("NoneType", "null").replace("float", "number")
            (schema,) = (each for each in schema["anyOf"] if each["type"] == kind)
        assert set(schema) <= SAID, schema
        kind = schema["type"]
        assert isinstance(value, {**NUMBERS, **KINDS}[kind]), (value, schema)
        assert value in schema.get("enum", [value])
        if isinstance(value, list):
            for each in value:
                self.fits(each, schema["items"])
        if isinstance(value, dict):
            assert set(schema.get("required", ())) <= set(value), (value, schema)
            for name, each in value.items():
                self.fits(
                    each, schema["properties"][name] if "properties" in schema else schema["additionalProperties"]
                )


@pytest.fixture
def declared(running) -> Declared:
    return Declared(running.get("/openapi.json").json())


def test_what_is_sent_is_what_is_declared(running, declared, png, radiograph):
    done = declared.check("post", "/api/predict", running.post(radiograph.read_bytes()))
    pictures = declared.check("post", "/api/predict", running.post(png(), wait=0)).json()["id"]
    place = f"/api/predict/{done.json()['id']}"
    for path in ("", "/events", "/images/0", "/report.json", "/report.csv", "/report.dcm"):
        declared.check("get", STUDY_PATH + path.replace("0", "{number}"), running.get(place + path))
    heat_map = STUDY_PATH + "/images/{number}/heatmap"
    declared.check("get", heat_map, running.get(f"{place}/images/0/heatmap?class=typical"))
    declared.check("delete", STUDY_PATH, running.ask("DELETE", place))
    for path in ("/api/models", "/healthz", "/metrics"):
        declared.check("get", path, running.get(path))
    running.get(f"/api/predict/{pictures}/events")  # ends with the study
    image = STUDY_PATH + "/images/{number}"
    declared.check("get", image, running.get(f"/api/predict/{pictures}/images/0"))
    # Every address is asked, and sends all that it declares but a JPEG.
    successes = {
        (method, path): {
            (status, kind) for status, found in each["responses"].items() if status < "300" for kind in found["content"]
        }
        for path, operations in declared.schema["paths"].items()
        for method, each in operations.items()
    }
    assert successes.pop(("get", image)) == declared.seen.pop(("get", image)) | {("200", "image/jpeg")}
    assert declared.seen == successes


def test_refusals_are_declared(running, declared, png, serve):
    ask, predict = running.ask, "/api/predict"
    for status, answer in {
        400: running.post(*(png(seed, 8) for seed in range(17))),
        403: running.post(png(), headers={"Origin": "http://evil.example"}),
        415: running.post(b"text"),
        421: running.post(png(), headers={"Host": "evil.example"}),
        422: running.post(png(), detector="none"),
    }.items():
        assert declared.check("post", predict, answer).status_code == status
    key = running.post(png()).json()["id"]
    for status, method, path, asked in (
        (404, "get", "", "none"),
        (404, "delete", "", "none"),
        (404, "get", "/events", "none"),
        (404, "get", "/images/{number}", f"{key}/images/1"),
        (422, "get", "/images/{number}", f"{key}/images/x"),
        (422, "get", "/images/{number}/heatmap", f"{key}/images/0/heatmap"),
        (409, "get", "/report.dcm", f"{key}/report.dcm"),
        (404, "get", "/report.csv", "none/report.csv"),
        (404, "get", "/report.json", "none/report.json"),
    ):
        asked = asked if "/" in asked else asked + path
        answer = declared.check(method, STUDY_PATH + path, ask(method.upper(), f"{predict}/{asked}"))
        assert answer.status_code == status
    assert "HTTPValidationError" not in str(declared.schema)
    limited = serve(limits=Limits(request_bytes=1000, per_minute=1), token="s3cret")
    token = {"Authorization": "Bearer s3cret"}
    for status, headers in ((401, {}), (413, token)):
        assert declared.check("post", predict, limited.post(bytes(2000), headers=headers)).status_code == status
    assert declared.check("post", predict, limited.post(b"", headers=token)).status_code == 415
    assert declared.check("post", predict, limited.post(b"", headers=token)).status_code == 429


def test_studies_that_end_without_a_result_are_declared(serve, runtime, declared, png, monkeypatch):
    server = serve(longest=1)
    with ThreadPoolExecutor(1) as pool, runtime._lock:
        waited = pool.submit(server.post, png(), headers={"Origin": server.address})
        while not (jobs := list(server.jobs._jobs.values())):
            time.sleep(0.01)
        server.jobs.cancel(jobs[0])
        assert declared.check("post", "/api/predict", waited.result()).status_code == 409

    def broken(*_, **__):
        raise ValueError("for this test")

    monkeypatch.setattr(runtime, "find", broken)
    answer = declared.check("post", "/api/predict", server.post(png()))
    assert (answer.status_code, answer.json()["state"]) == (500, "failed")
    monkeypatch.setattr(server.jobs, "submit", broken)
    answer = declared.check("post", "/api/predict", server.post(png()))
    assert (answer.status_code, answer.json()) == (500, {"detail": "an error of the server, whose log has it"})
    server.jobs.stop()
    assert declared.check("post", "/api/predict", server.post(png())).status_code == 503


def test_a_client_is_told_what_it_may_ask_for(declared):
    form = declared.schema["paths"]["/api/predict"]["post"]["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["detector"]["enum"] == ["fasterrcnn", "yolo", "ensemble"]
    assert form["properties"]["files"]["maxItems"] == Limits().files
    assert list(declared.schema["components"]["schemas"]["Probabilities"]["properties"]) == list(STUDY.names)
