"""Uploaded files: what they hold, and their decoding in a process that cannot take the server down."""

import hashlib
import multiprocessing
import resource
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from siimdet.core.types import ImageSize
from siimdet.errors import ImageError, UserError
from siimdet.imaging.grayscale import to_grey
from siimdet.imaging.png import write_png
from siimdet.imaging.radiograph import Radiograph
from siimdet.imaging.raw import read_raw
from siimdet.serve.one_study import Belonging, belonging

Kind = Literal["dicom", "png", "jpeg"]

MEDIA_TYPES: dict[Kind, str] = {"dicom": "application/dicom", "png": "image/png", "jpeg": "image/jpeg"}
HEAD = 132
"""Bytes of a file that `kind_of` looks at."""


@dataclass(frozen=True, slots=True)
class DecodeLimits:
    """What a decoding process may take, beyond what siimdet.imaging.limits refuses by a file's header."""

    memory_bytes: int = 3 << 30
    """Of address space: the 2 GiB of the largest image that is let in, and the libraries."""
    seconds: int = 60
    """Of the clock, and of the processor."""


LIMITS = DecodeLimits()
_ID = 16  # hexadecimal digits
_DECODABLE = "an image that can be decoded within the limits of memory and time"


class TooCostly(ImageError):
    """An image whose decoding took more memory or time than it may."""


@dataclass(frozen=True, slots=True)
class Upload:
    """A file of a study, decoded: its bytes at `path`, its grey pixels of `size` at `image`.

    `image_id` is the beginning of the SHA-256 of the bytes: the same file has the same id, and no file's own name or
    header, which may hold a patient's, becomes one.
    """

    image_id: str
    kind: Kind
    digest: str
    path: Path
    size: ImageSize
    belonging: Belonging = field(repr=False)

    @property
    def image(self) -> Path:
        """The decoded image, PNG of 8 bits and the original size."""
        return _image_beside(self.path)


def kind_of(head: bytes) -> Kind | None:
    """What a file is by its first HEAD bytes, whatever it is called; None for anything else."""
    if head[128:132] == b"DICM":
        return "dicom"
    if head.startswith(b"\x89PNG\r\n\x1a\n"):
        return "png"
    return "jpeg" if head.startswith(b"\xff\xd8\xff") else None


def receive(folder: Path, data: bytes, kind: Kind, limits: DecodeLimits = LIMITS) -> Upload:
    """Keep the bytes of a file in a folder, and its grey image beside them, as `convert` would make it.

    Raises: ImageError with the reason of a file that cannot be read; TooCostly.
    """
    digest = hashlib.sha256(data).hexdigest()
    path = folder / f"{digest[:_ID]}.{kind}"
    path.write_bytes(data)
    return Upload(digest[:_ID], kind, digest, path, *_decode(path, kind, limits))


def _decode(path: Path, kind: Kind, limits: DecodeLimits) -> tuple[ImageSize, Belonging]:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    ours, theirs = context.Pipe(duplex=False)
    child = context.Process(target=_decode_child, args=(path, kind, limits, theirs), daemon=True)
    child.start()
    theirs.close()
    try:
        answer = ours.recv() if ours.poll(limits.seconds) else None
    except EOFError:
        answer = None
    finally:
        ours.close()
        child.kill()
        child.join()
        child.close()
    if isinstance(answer, tuple):
        size, told = answer
        return ImageSize(*size), Belonging(*told)
    if answer is None:
        raise TooCostly("upload", "file", found="one that takes too much memory or time", expected=_DECODABLE)
    raise ImageError("upload", **answer)


def _decode_child(path: Path, kind: Kind, limits: DecodeLimits, pipe: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (limits.memory_bytes, limits.memory_bytes))
    resource.setrlimit(resource.RLIMIT_CPU, (limits.seconds, limits.seconds))
    try:
        image = read_raw(path, is_dicom=kind == "dicom")
        grey = _grey(image, path)
        write_png(_image_beside(path), grey)
        told = belonging(image.ids) if isinstance(image, Radiograph) else Belonging()
        pipe.send((grey.shape[::-1], tuple(told)))
    except UserError as error:
        # Without the path: its name is ours.
        pipe.send({"field": error.field, "found": error.found, "expected": error.expected})
    except Exception as error:
        # Codecs that run out of memory raise as they like; a traceback would stand in the server's log.
        pipe.send({"field": "file", "found": type(error).__name__, "expected": _DECODABLE})


def _grey(image: Radiograph | NDArray[np.unsignedinteger], path: Path) -> NDArray[np.unsignedinteger]:
    """u8[H, W] of the original size; a copy of 8 bits as it is. Raises: ImageError for one grey level."""
    grey = to_grey(image) if isinstance(image, Radiograph) else image
    if grey.min() == grey.max():
        raise ImageError(path, "pixels", found="one grey level", expected="an image of something")
    return grey


def _image_beside(path: Path) -> Path:
    return path.with_name(f"{path.stem}.grey.png")
