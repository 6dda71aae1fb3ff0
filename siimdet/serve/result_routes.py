"""The addresses of a study's files and results."""

from typing import Annotated

import cv2
from fastapi import FastAPI, HTTPException, Query
from fastapi.responses import FileResponse, Response

from siimdet.core.labels import STUDY
from siimdet.errors import MissingExtra, UserError
from siimdet.serve.answers import Study, refusals, sends
from siimdet.serve.jobs import Job, Jobs
from siimdet.serve.predict_routes import find_job, shown
from siimdet.serve.runtime import Found
from siimdet.serve.study_report import report_of
from siimdet.serve.uploads import MEDIA_TYPES, Upload
from siimdet.submission.file import write_submission


def add_result_routes(app: FastAPI, jobs: Jobs) -> None:
    """Add the uploads, their heat maps, and the reports of a study."""
    images = sends(*MEDIA_TYPES.values()) | refusals(404, 422)

    @app.get("/api/predict/{key}/images/{number}", response_class=Response, responses=images)
    def image(key: str, number: int) -> FileResponse:
        """An uploaded file, as it came; `number` counts from 0."""
        upload = _upload(find_job(jobs, key), number)
        return FileResponse(upload.path, media_type=MEDIA_TYPES[upload.kind])

    heat_maps = sends("image/png") | refusals(404, 409, 422)

    @app.get("/api/predict/{key}/images/{number}/heatmap", response_class=Response, responses=heat_maps)
    def heat_map(
        key: str,
        number: int,
        class_name: Annotated[str, Query(alias="class", json_schema_extra={"enum": list(STUDY.names)})],
    ) -> Response:
        """Grad-CAM of the study classifier for a class: PNG of the image's size, the less opaque the less hot."""
        upload = _upload(_done(jobs, key)[0], number)
        if class_name not in STUDY.names:
            raise HTTPException(422, f"class: found {class_name!r}, expected one of {', '.join(STUDY.names)}")
        try:
            pixels = jobs.runtime.heat(upload, class_name)
        except MissingExtra as error:
            raise HTTPException(409, str(error)) from None
        return Response(cv2.imencode(".png", pixels)[1].tobytes(), media_type="image/png")

    @app.get("/api/predict/{key}/report.json", responses=refusals(404, 409))
    def report_json(key: str) -> Study:
        """The result."""
        return shown(jobs, _done(jobs, key)[0])

    @app.get("/api/predict/{key}/report.csv", response_class=Response, responses=sends("text/csv") | refusals(404, 409))
    def report_csv(key: str) -> FileResponse:
        """The result as rows of the competition's submission, with the server's ids."""
        job, found = _done(jobs, key)
        path = job.folder / "report.csv"
        write_submission(path, found.submission)
        return FileResponse(path, media_type="text/csv")

    @app.get(
        "/api/predict/{key}/report.dcm",
        response_class=Response,
        responses=sends(MEDIA_TYPES["dicom"]) | refusals(404, 409),
    )
    def report_dicom(key: str) -> Response:
        """The result as a structured report on DICOM files."""
        job, found = _done(jobs, key)
        if any(upload.kind != "dicom" for upload in job.uploads):
            raise HTTPException(409, "a structured report stands on DICOM files, and this study has others")
        try:
            return Response(
                report_of(job.uploads, found.result, job.detector, jobs.runtime), media_type=MEDIA_TYPES["dicom"]
            )
        except MissingExtra as error:
            raise HTTPException(409, str(error)) from None
        except UserError as error:
            raise HTTPException(409, error.reason) from None


def _done(jobs: Jobs, key: str) -> tuple[Job, Found]:
    job = find_job(jobs, key)
    if job.found is None:
        raise HTTPException(409, f"the study is {job.state}")
    return job, job.found


def _upload(job: Job, number: int) -> Upload:
    if not 0 <= number < len(job.uploads):
        raise HTTPException(404, f"no image {number} in this study")
    return job.uploads[number]
