"""From a multipart form to the decoded files of a study, within the limits; and what is said of those beyond."""

import asyncio
import logging
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fastapi import HTTPException, Request
from starlette.datastructures import FormData, ImmutableMultiDict, UploadFile
from starlette.types import Message, Receive

from siimdet.errors import ImageError
from siimdet.serve.guard import Limits
from siimdet.serve.one_study import stranger
from siimdet.serve.runtime import ENSEMBLE
from siimdet.serve.uploads import HEAD, Upload, kind_of, receive

# It logs every broken form, with bytes of it.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)

_FIELDS = 8
_NAME = 40  # characters of a client's own names that are repeated to it
_CLOSE = {"Connection": "close"}


def described_form(limits: Limits, choices: Sequence[str]) -> dict[str, Any]:
    """The form as the interface's schema has it: it is read by hand, for its limits."""
    files = {"type": "array", "items": {"type": "string", "format": "binary"}, "maxItems": limits.files}
    schema = {
        "type": "object",
        "required": ["files"],
        "properties": {
            "files": files,
            "detector": {"type": "string", "enum": list(choices), "default": ENSEMBLE},
        },
        "additionalProperties": False,
    }
    return {"requestBody": {"required": True, "content": {"multipart/form-data": {"schema": schema}}}}


def check_names(found: ImmutableMultiDict, kind: str, known: Sequence[str], *, several: str | None = None) -> None:
    """Refuse by 422 what would be left out in silence: unknown names, and all but `several` that come twice."""
    for name, count in Counter(name for name, _ in found.multi_items()).items():
        if name not in known:
            raise HTTPException(422, f"{name[:_NAME]}: found this {kind}, expected {' and '.join(known)}")
        if count > 1 and name != several:
            raise HTTPException(422, f"{name}: found it twice, expected it once")


class Intake:
    """Reads forms, some at a time: a decoding process may take gigabytes."""

    def __init__(self, limits: Limits, *, at_once: int = 2) -> None:
        self._limits = limits
        self._decoding = asyncio.Semaphore(at_once)

    async def read(self, request: Request, folder: Path, choices: Sequence[str]) -> tuple[list[Upload], str]:
        """The files of a form, kept in `folder`, and the detector that it asks for, one of `choices`.

        Raises: HTTPException 408, 413, 415 or 422, with the reason: a file that comes twice or is of another
        study is one, and a name that the form does not have.
        """
        heard = Request(request.scope, _attentive(request.receive, self._limits.silence))
        try:
            async with asyncio.timeout(self._limits.seconds):
                async with heard.form(max_files=self._limits.files, max_fields=_FIELDS) as form:
                    check_names(form, "field", ("files", "detector"), several="files")
                    detector = _detector(form, choices)
                    return await self._uploads(form, folder), detector
        except TimeoutError:
            raise HTTPException(408, f"the files took more than {self._limits.seconds:g} s", headers=_CLOSE) from None

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
            if reason := stranger(upload.belonging, [each.belonging for each in uploads]):
                raise HTTPException(422, f"file {number}: {reason}")
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


def _attentive(receive: Receive, silence: float) -> Receive:
    """Receives from a client that goes on sending. Raises: HTTPException 408 after so many seconds without a byte."""

    async def heard() -> Message:
        try:
            async with asyncio.timeout(silence):
                return await receive()
        except TimeoutError:
            raise HTTPException(408, f"no byte came for {silence:g} s", headers=_CLOSE) from None

    return heard


def _place(upload: Upload, uploads: Sequence[Upload]) -> int | None:
    """Number, from 1, of the upload with the same bytes."""
    return next((place for place, each in enumerate(uploads, start=1) if each.image_id == upload.image_id), None)


def _detector(form: FormData, choices: Sequence[str]) -> str:
    detector = form.get("detector", ENSEMBLE)
    if not isinstance(detector, str) or detector not in choices:
        found = repr(detector) if isinstance(detector, str) else "a file"
        raise HTTPException(422, f"detector: found {found}, expected one of {', '.join(choices)}")
    return detector
