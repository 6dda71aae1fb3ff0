"""The server's application. The page is served where `make web` has built it; the interface works without it."""

from pathlib import Path

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from fastapi.staticfiles import StaticFiles
from starlette.exceptions import HTTPException
from starlette.routing import Match, Route

import siimdet
from siimdet.core.labels import STUDY
from siimdet.inference.explain import can_explain
from siimdet.serve.answers import Health, Model, Models, describe, refusals, sends
from siimdet.serve.guard import Guard, Limits, TooLarge, too_large
from siimdet.serve.jobs import SERVER_ERROR, Jobs
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
    app.add_exception_handler(Exception, lambda *_: JSONResponse({"detail": SERVER_ERROR}, 500))
    app.add_exception_handler(TooLarge, lambda *_: JSONResponse({"detail": too_large(limits)}, 413))
    add_predict_routes(app, jobs, limits)
    add_result_routes(app, jobs)
    _add_state_routes(app, jobs)
    if (static / "index.html").is_file():
        # Mounted at / it would be asked before a route that has the path and not the method.
        app.router.default = StaticFiles(directory=static, html=True)
    else:
        app.get("/", include_in_schema=False)(lambda: HTMLResponse(NO_PAGE))
    describe(app)
    _answer_head(app)
    return Guard(app, token=token, hosts=hosts, limits=limits)


def _add_state_routes(app: FastAPI, jobs: Jobs) -> None:
    @app.get("/api/models", responses=refusals())
    def models() -> Models:
        """What is loaded, and what may be asked for: `thresholds` are the least scores of boxes worth a look."""
        named = {**jobs.runtime.detectors, "study": jobs.runtime.study}
        thresholds = {choice: jobs.runtime.threshold(choice) for choice in jobs.runtime.choices}
        described: list[Model] = [
            {
                "name": name,
                "kind": each.spec.kind,
                "classes": list(each.spec.classes.names),
                "threshold": each.threshold,
                "sha256": each.digest,
            }
            for name, each in named.items()
        ]
        return {
            "choices": list(jobs.runtime.choices),
            "thresholds": thresholds,
            "heatmaps": can_explain(),
            "models": described,
            "classes": list(STUDY.names),
        }

    @app.get("/healthz", responses=refusals(is_open=True))
    def health() -> Health:
        """That the server answers."""
        return {"status": "ok"}

    @app.get("/metrics", response_class=Response, responses=sends("text/plain") | refusals())
    def metrics() -> PlainTextResponse:
        """Figures for Prometheus."""
        return PlainTextResponse(jobs.metrics.text(jobs.waiting()), media_type="text/plain; version=0.0.4")


def _answer_head(app: FastAPI) -> None:
    """Let HEAD have what GET has (RFC 9110, 9.3.2); uvicorn leaves the body out."""
    for route in app.routes:
        if isinstance(route, APIRoute) and route.methods and "GET" in route.methods:
            route.methods.add("HEAD")


def _refused(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException), "registered for it"
    headers = dict(error.headers or {})
    if error.status_code == 405 and (allowed := _allowed(request)):
        headers["Allow"] = ", ".join(sorted(allowed))
    return JSONResponse({"detail": error.detail}, error.status_code, headers=headers)


def _allowed(request: Request) -> set[str]:
    """The methods of a path, which may be those of several routes."""
    routes = (route for route in request.app.routes if isinstance(route, Route))
    return {
        method for route in routes if route.matches(request.scope)[0] != Match.NONE for method in route.methods or ()
    }


def _invalid(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError), "registered for it"
    first = error.errors()[0]
    return JSONResponse({"detail": f"{first['loc'][-1]}: {first['msg']}"}, 422)
