"""The addresses of a study: ask for it, watch it, cancel it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Annotated

from fastapi import FastAPI, HTTPException, Query, Request, Response
from fastapi.responses import JSONResponse, StreamingResponse
from starlette.requests import ClientDisconnect

from siimdet.serve.answers import Accepted, Study, refusals, sends
from siimdet.serve.guard import Limits
from siimdet.serve.intake import Intake, check_names, described_form
from siimdet.serve.jobs import ENDED, Job, Jobs, QueueFull

_POLL = 0.05  # seconds between two looks at a study that somebody waits for
_RETRY = {"Retry-After": "10"}
_EVENTS = "text/event-stream"
_PREDICT = {
    200: {"model": Study, "description": "The result, with `wait=1`"},
    202: {"model": Accepted, "description": "The files are taken"},
    **refusals(400, 408, 409, 415, 422, 429, 503, 507, changes=True),
}
_CLIENT_GONE = 499  # nginx's, for its log: nobody reads the answer


def add_predict_routes(app: FastAPI, jobs: Jobs, limits: Limits) -> None:
    """Add POST /api/predict, and GET, DELETE and events of a study."""
    intake = Intake(limits)
    form = described_form(limits, jobs.runtime.choices)

    @app.post("/api/predict", status_code=202, openapi_extra=form, responses=_PREDICT)
    async def predict(request: Request, wait: Annotated[bool, Query()] = False) -> Response:
        """Find opacities in the files of one study: `files`, and `detector`; `wait=1` answers with the result."""
        check_names(request.query_params, "query key", ("wait",))
        try:
            with jobs.receiving(request.client.host if request.client else None) as folder:
                uploads, detector = await intake.read(request, folder, jobs.runtime.choices)
                job = await asyncio.to_thread(jobs.submit, folder, uploads, detector)
        except QueueFull as error:
            raise HTTPException(503, str(error), headers=_RETRY) from None
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        except OSError:
            raise HTTPException(507, "there is no room for the files", headers=_RETRY) from None
        return await _waited(request, jobs, job) if wait else JSONResponse({"id": job.key}, 202)

    @app.get("/api/predict/{key}", responses=refusals(404))
    def state(key: str) -> Study:
        """State, progress and, once it is done, the result of a study."""
        return shown(jobs, find_job(jobs, key))

    @app.delete("/api/predict/{key}", responses=refusals(404, changes=True))
    def cancel(key: str) -> Study:
        """Cancel a study; one that has ended stays as it is."""
        job = find_job(jobs, key)
        jobs.cancel(job)
        return shown(jobs, job)

    @app.get("/api/predict/{key}/events", response_class=Response, responses=sends(_EVENTS) | refusals(404))
    async def events(request: Request, key: str) -> StreamingResponse:
        """Server-sent events: the state of a study whenever it changes, until it has ended."""
        told = _events(jobs, find_job(jobs, key)) if request.method == "GET" else iter(())
        return StreamingResponse(told, media_type=_EVENTS)


def find_job(jobs: Jobs, key: str) -> Job:
    """A study by its key. Raises: HTTPException 404."""
    job = jobs.get(key)
    if job is None:
        raise HTTPException(404, "no such study: it may have expired")
    return job


def shown(jobs: Jobs, job: Job) -> Study:
    """A study as it is answered."""
    told: Study = {"id": job.key, "state": job.state, "progress": job.progress}
    if job.state == "queued":
        told["position"] = jobs.position(job)
    if job.detail is not None:
        told["detail"] = job.detail
    if job.found is not None:
        result = job.found.result.as_dict()
        told["images"], told["study"] = result["images"], result["study"]
    return told


async def _waited(request: Request, jobs: Jobs, job: Job) -> Response:
    while not job.ended.is_set():
        if await request.is_disconnected():
            jobs.cancel(job)
            return Response(status_code=_CLIENT_GONE)
        await asyncio.sleep(_POLL)
    if job.state == "cancelled":
        return JSONResponse({"detail": "the study was cancelled", **shown(jobs, job)}, 409)
    return JSONResponse(shown(jobs, job), 200 if job.state == "done" else 422 if job.refused else 500)


async def _events(jobs: Jobs, job: Job) -> AsyncIterator[str]:
    last = None
    while last is None or last["state"] not in ENDED:
        if (now := shown(jobs, job)) != last:
            last = now
            yield f"data: {json.dumps(now)}\n\n"
        await asyncio.sleep(_POLL)
