"""From a multipart form to the decoded files of a study, within the limits; and what is said of those beyond."""

import asyncio
from collections.abc import Sequence
from pathlib import Path

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, UploadFile

from siimdet.errors import ImageError
from siimdet.serve.guard import Limits
from siimdet.serve.runtime import ENSEMBLE
from siimdet.serve.uploads import HEAD, Upload, kind_of, receive

FORM = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["files"],
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}},
                        "detector": {"type": "string", "default": ENSEMBLE},
                    },
                }
            }
        },
    }
}
"""The form is read by hand, for its limits; this tells clients of it."""

_FIELDS = 8


class Intake:
    """Reads forms, some at a time: a decoding process may take gigabytes."""

    def __init__(self, limits: Limits, *, at_once: int = 2) -> None:
        self._limits = limits
        self._decoding = asyncio.Semaphore(at_once)

    async def read(self, request: Request, folder: Path, choices: Sequence[str]) -> tuple[list[Upload], str]:
        """The files of a form, kept in `folder`, and the detector that it asks for, one of `choices`.

        Raises: HTTPException 408, 413, 415 or 422, with the reason; a file that comes twice is one of them.
        """
        try:
            async with asyncio.timeout(self._limits.seconds):
                async with request.form(max_files=self._limits.files, max_fields=_FIELDS) as form:
                    detector = _detector(form, choices)
                    return await self._uploads(form, folder), detector
        except TimeoutError:
            raise HTTPException(408, f"the files took more than {self._limits.seconds:g} s") from None

    async def _uploads(self, form: FormData, folder: Path) -> list[Upload]:
        uploads: list[Upload] = []
        for number, file in enumerate(form.getlist("files"), start=1):
            if not isinstance(file, UploadFile):
                raise HTTPException(422, "files: found text, expected files")
            if (file.size or 0) > self._limits.file_bytes:
                raise HTTPException(413, f"file {number}: a file has at most {self._limits.file_bytes >> 20} MiB")
            upload = await self._upload(await file.read(), folder, number)
            # Left out in silence, it would shift the numbers of the images after it; counted twice, it would weigh so.
            if (first := _place(upload, uploads)) is not None:
                raise HTTPException(422, f"file {number}: found the bytes of file {first}, expected every file once")
            uploads.append(upload)
        if not uploads:
            raise HTTPException(422, "files: found none, expected the images of a study")
        return uploads

    async def _upload(self, data: bytes, folder: Path, number: int) -> Upload:
        kind = kind_of(data[:HEAD])
        if kind is None:
            raise HTTPException(415, f"file {number}: found neither DICOM nor PNG nor JPEG, expected one of them")
        async with self._decoding:
            try:
                return await asyncio.to_thread(receive, folder, data, kind)
            except ImageError as error:
                raise HTTPException(422, f"file {number}: {error.reason}") from None


def _place(upload: Upload, uploads: Sequence[Upload]) -> int | None:
    """Number, from 1, of the upload with the same bytes."""
    return next((place for place, each in enumerate(uploads, start=1) if each.image_id == upload.image_id), None)


def _detector(form: FormData, choices: Sequence[str]) -> str:
    detector = form.get("detector", ENSEMBLE)
    if not isinstance(detector, str) or detector not in choices:
        found = repr(detector) if isinstance(detector, str) else "a file"
        raise HTTPException(422, f"detector: found {found}, expected one of {', '.join(choices)}")
    return detector
