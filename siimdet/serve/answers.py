"""What the server answers, as types that the schema of its interface is made of; and how each address refuses."""

from typing import Any, NotRequired

from fastapi import FastAPI
from typing_extensions import TypedDict

from siimdet.serve.jobs import State

Responses = dict[int | str, dict[str, Any]]

_WHY = {
    400: "More files than a study may have, or a broken form",
    401: "No token, where the server asks for one",
    403: "A page of another site asks",
    404: "An unknown or expired study, or an image that it does not have",
    408: "Sending the files takes too long",
    409: "Not done, cancelled, or not to be had of this study",
    413: "The request or a file is too large",
    415: "A file is neither DICOM nor PNG nor JPEG",
    421: "The server does not go by that name",
    422: "Something else was asked for, or sent, than can be",
    429: "This address asks too often",
    500: "An error of the server, whose log has it",
    503: "Too many studies wait or are being sent, or the server ends",
    507: "There is no room for the files",
}
_EVERYWHERE = (421, 500)
_FOREIGN = (403, 413)


class Box(TypedDict):
    """In pixels of the file; `score` is in [0, 1]."""

    x1: float
    y1: float
    x2: float
    y2: float
    score: float
    detector: str


class Image(TypedDict):
    """A file of a study, in the order sent; `id` is the beginning of the SHA-256 of its bytes."""

    id: str
    width: int
    height: int
    boxes: list[Box]


class Probabilities(TypedDict):
    """Of the classes of a study; their sum is 1."""

    negative: float
    typical: float
    indeterminate: float
    atypical: float


class Accepted(TypedDict):
    """The id that a study is asked for by."""

    id: str


class Study(TypedDict):
    """A study as far as it is known.

    `progress` is in [0, 1]. `position`, of one that waits, is how many are before it. `detail` is why one failed.
    `images` and `study` are there once it is done.
    """

    id: str
    state: State
    progress: float
    position: NotRequired[int]
    detail: NotRequired[str]
    images: NotRequired[list[Image]]
    study: NotRequired[Probabilities]


class Refusal(TypedDict):
    """Why nothing else is answered. A study that was waited for, and has failed, has its own fields beside."""

    detail: str
    id: NotRequired[str]
    state: NotRequired[State]
    progress: NotRequired[float]


class Model(TypedDict):
    """A model that is loaded; `threshold` is the score of its operating point, null where its run tells none."""

    name: str
    kind: str
    classes: list[str]
    threshold: float | None
    sha256: str


class Models(TypedDict):
    """What may be asked for, what is loaded, and the classes of a study.

    `thresholds` are the least scores of boxes worth a look.
    """

    choices: list[str]
    thresholds: dict[str, float]
    heatmaps: bool
    models: list[Model]
    classes: list[str]


class Health(TypedDict):
    """That the server answers."""

    status: str


def refusals(*statuses: int, changes: bool = False, is_open: bool = False) -> Responses:
    """An address's own refusals and those of the guard: of one that `changes` something, or `is_open` to all."""
    guard = (*_EVERYWHERE, *(() if is_open else (401,)), *(_FOREIGN if changes else ()))
    every = sorted({*statuses, *guard})
    return {status: {"model": Refusal, "description": _WHY[status]} for status in every}


def sends(*media_types: str) -> Responses:
    """An answer that is a file of one of these types."""
    bytes_of = {each: {} if each.startswith("text/") else {"format": "binary"} for each in media_types}
    return {200: {"content": {each: {"schema": {"type": "string", **format}} for each, format in bytes_of.items()}}}


def describe(app: FastAPI) -> None:
    """Make the schema of the routes so far, without the 422 that FastAPI adds to each route that says none."""
    schema = app.openapi()
    for operations in schema["paths"].values():
        for operation in operations.values():
            if "HTTPValidationError" in str(operation["responses"].get("422")):
                del operation["responses"]["422"]
    for name in ("HTTPValidationError", "ValidationError"):
        schema["components"]["schemas"].pop(name, None)
    app.openapi = lambda: schema
