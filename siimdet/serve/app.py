"""The server's application. The page is served where `make web` has built it; the interface works without it."""

from pathlib import Path
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException

import siimdet
from siimdet.core.labels import STUDY
from siimdet.inference.explain import can_explain
from siimdet.serve.guard import Guard, Limits, TooLarge, too_large
from siimdet.serve.jobs import Jobs
from siimdet.serve.predict_routes import add_predict_routes
from siimdet.serve.result_routes import add_result_routes

STATIC = Path(__file__).with_name("static")
NO_PAGE = (
    "<!doctype html><html lang=en><title>siimdet</title><p>The viewer is not built: run <code>make web</code>. "
    "The interface works: <a href=openapi.json>openapi.json</a>.</p></html>"
)


def make_app(
    jobs: Jobs, *, limits: Limits, token: str | None, hosts: frozenset[str] | None, static: Path = STATIC
) -> Guard:
    """The application behind its guard: `token` is what clients must give, `hosts` the names they may call it by."""
    app = FastAPI(title="siimdet", version=siimdet.__version__, docs_url=None, redoc_url=None)
    app.add_exception_handler(HTTPException, _refused)
    app.add_exception_handler(RequestValidationError, _invalid)
    app.add_exception_handler(TooLarge, lambda *_: JSONResponse({"detail": too_large(limits)}, 413))
    add_predict_routes(app, jobs, limits)
    add_result_routes(app, jobs)
    _add_state_routes(app, jobs)
    if (static / "index.html").is_file():
        app.mount("/", StaticFiles(directory=static, html=True))
    else:
        app.get("/", include_in_schema=False)(lambda: HTMLResponse(NO_PAGE))
    return Guard(app, token=token, hosts=hosts, limits=limits)


def _add_state_routes(app: FastAPI, jobs: Jobs) -> None:
    @app.get("/api/models")
    def models() -> dict[str, Any]:
        """What is loaded, and what may be asked for: `thresholds` are the least scores of boxes worth a look."""
        named = {**jobs.runtime.detectors, "study": jobs.runtime.study}
        thresholds = {choice: jobs.runtime.threshold(choice) for choice in jobs.runtime.choices}
        described = [
            {
                **{"name": name, "kind": each.spec.kind, "classes": each.spec.classes.names},
                **{"threshold": each.threshold, "sha256": each.digest},
            }
            for name, each in named.items()
        ]
        asked = {"choices": jobs.runtime.choices, "thresholds": thresholds, "heatmaps": can_explain()}
        return {**asked, "models": described, "classes": STUDY.names}

    @app.get("/healthz")
    def health() -> dict[str, str]:
        """That the server answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=PlainTextResponse)
    def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        return PlainTextResponse(jobs.metrics.text(jobs.waiting()), media_type="text/plain; version=0.0.4")


def _refused(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), "registered for it"
    return JSONResponse({"detail": error.detail}, error.status_code, headers=dict(error.headers or {}))


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError), "registered for it"
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)
