"""The door to DICOM files: pixels and the values that show them, checked; nothing of pydicom leaves.

Reading is strict about what would give a wrong picture and tolerant about the rest. What a file may
cost is bounded before it is spent: its size, its inflated size, its elements, its pixels.
"""

import io
import os
import warnings
import zlib
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from pydicom import dcmread
from pydicom.config import disable_value_validation
from pydicom.dataset import Dataset
from pydicom.encaps import generate_frames
from pydicom.filereader import read_dataset, read_file_meta_info
from pydicom.tag import BaseTag, Tag

from siimdet.errors import ImageError
from siimdet.imaging import dicom_header as meaning
from siimdet.imaging.decode import DEFLATED, decode_frame, is_encapsulated, is_supported
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.imaging.limits import MAX_FILE_BYTES
from siimdet.imaging.radiograph import HeaderIds, Radiograph

__all__ = ["HeaderIds", "Radiograph", "read_header_ids", "read_radiograph", "write_radiograph"]

_MAX_READS = 500_000  # by the parser: a radiograph's header takes some hundreds, a hostile one minutes and gigabytes
_MAX_TABLE_BYTES = 1 << 20  # of a sequence of look-up tables of at most 128 kB each
_CHUNK = 1 << 20
_PIXELS = "PixelData"
_SEQUENCES = ("ModalityLUTSequence", "VOILUTSequence")
_SYNTAX_FIELD = "TransferSyntaxUID (0002,0010)"


def read_radiograph(path: Path | str, *, voi: int = 1) -> Radiograph:
    """Read a DICOM file of one grey frame.

    `voi` is the number of the VOI table or window to show it with, from 1; 0 for none of them.
    Raises: ImageError, which names the element, for anything else: broken or cut off files, unknown
    transfer syntaxes, colour, several frames, other than 8 or 16 bits allocated, sizes that disagree
    with the code stream, more than 150 million pixels or 256 MiB, windows that show nothing.
    """
    syntax, header, words = _read_header(path, meaning.TAGS)
    frame = meaning.read_frame_format(header)
    bits_stored = meaning.read_bits_stored(header, frame)
    modality, shown = meaning.read_modality(header), meaning.read_voi(header, voi)
    padding = meaning.read_padding(header, frame, bits_stored)
    data = header.values[_PIXELS]
    if not isinstance(data, bytes):
        header.refuse(_PIXELS, found=type(data).__name__, expected="bytes")
    if is_encapsulated(syntax):
        data = _join_fragments(data, path)
    return Radiograph(
        ids=meaning.read_ids(header),
        pixels=decode_frame(data, frame, syntax=syntax, file=path, words=words),
        bits_stored=bits_stored,
        signed=frame.signed,
        photometric=header.text("PhotometricInterpretation"),
        inverted=meaning.read_inverted(header),
        modality=modality,
        voi=shown,
        padding=padding,
    )


def read_header_ids(path: Path | str) -> HeaderIds:
    """Patient, study, series and instance of a DICOM file, whatever it shows; absent ones are empty.

    Raises: ImageError for what is no readable DICOM file.
    """
    keywords = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID")
    _, header, _ = _read_header(path, {keyword: meaning.TAGS[keyword] for keyword in keywords})
    return meaning.read_ids(header)


def _read_header(path: Path | str, tags: dict[str, int]) -> tuple[str, meaning.Header, bool]:
    """Transfer syntax, values of `tags`, and whether the pixels are stored as 16-bit words."""
    try:
        size = os.path.getsize(path)
        if not 0 < size <= MAX_FILE_BYTES:
            raise ImageError(path, "file", found=f"{size} bytes", expected=f"1 to {MAX_FILE_BYTES}")
        with warnings.catch_warnings(), disable_value_validation():
            # pydicom warns about each bad value; the ones that matter are refused by name.
            warnings.simplefilter("ignore")
            syntax, dataset = _parse(path, tags.values(), stop_before_pixels=_PIXELS not in tags)
            values = _plain_values(dataset, tags, path)
    except ImageError:
        raise
    except OSError as error:
        raise ImageError(path, "file", found=error.strerror or error, expected="a readable file") from error
    except Exception as error:
        # A parser on hostile bytes fails in any way; all of them mean that the file is broken.
        raise ImageError(path, "file", found=f"{type(error).__name__}: {error}", expected="a DICOM file") from error
    words = _PIXELS in dataset and dataset.get_item(_PIXELS).VR == "OW"
    return syntax, meaning.Header(path, values), words


def _parse(path: Path | str, tags: Iterable[int], *, stop_before_pixels: bool) -> tuple[str, Dataset]:
    wanted: list[BaseTag | int] = [Tag(tag) for tag in tags]
    meta = read_file_meta_info(path)
    syntax = str(meta.get("TransferSyntaxUID", ""))
    if not is_supported(syntax):
        expected = "uncompressed, deflated, RLE, JPEG, JPEG Lossless, JPEG-LS, JPEG 2000 or JPEG XL"
        raise ImageError(path, _SYNTAX_FIELD, found=syntax or "nothing", expected=expected)
    with open(path, "rb", buffering=0) as stream:
        if syntax != DEFLATED:
            parsed = dcmread(_Bounded(stream), stop_before_pixels=stop_before_pixels, specific_tags=list(tags))
            return syntax, parsed
        # After the preamble, `DICM` and the element that gives the length of the file meta information.
        stream.seek(128 + 4 + 12 + meta.FileMetaInformationGroupLength)
        inflated = _inflate(stream, path)
    return syntax, read_dataset(_Bounded(io.BytesIO(inflated)), False, True, specific_tags=wanted)


class _Bounded(io.BufferedReader):
    """A stream that ends with an error after so many reads, one or two per element and item.

    pydicom keeps half a kilobyte for each of a hostile file's 30 million empty elements.
    """

    reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        self.reads += 1
        if self.reads > _MAX_READS:
            raise ValueError(f"more than {_MAX_READS} elements")
        return super().read(size)


def _inflate(stream: io.FileIO, path: Path | str) -> bytes:
    """Raw deflate (PS3.5 A.5), in steps that cannot outgrow the limit."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    parts, size = [], 0
    while not inflater.eof:
        deflated = inflater.unconsumed_tail or stream.read(_CHUNK)
        if not deflated:
            raise ImageError(path, "file", found="a deflated data set that is cut off", expected="all of it")
        parts.append(inflater.decompress(deflated, _CHUNK))
        size += len(parts[-1])
        if size > MAX_FILE_BYTES:
            raise ImageError(path, "file", found="more when inflated", expected=f"at most {MAX_FILE_BYTES} bytes")
    return b"".join(parts)


def _plain_values(dataset: Dataset, tags: dict[str, int], path: Path | str) -> dict[str, object]:
    """Values by keyword, without the absent and empty ones."""
    values: dict[str, object] = {}
    for keyword, tag in tags.items():
        if tag not in dataset:
            continue
        if keyword in _SEQUENCES:
            raw = dataset.get_item(tag).value
            if isinstance(raw, bytes) and len(raw) > _MAX_TABLE_BYTES:
                raise ImageError(
                    path, meaning.tag_name(keyword), found=f"{len(raw)} bytes", expected=f"at most {_MAX_TABLE_BYTES}"
                )
        try:
            value = dataset[tag].value
            if keyword in _SEQUENCES:
                value = [_table_item(item) for item in value]
        except Exception as error:
            # Converting bytes of the wrong kind fails in as many ways as there are kinds.
            raise ImageError(path, meaning.tag_name(keyword), found=error, expected="a valid value") from error
        if value is not None and value != "" and value != b"" and value != []:
            values[keyword] = _plain(value)
    return values


def _table_item(item: Dataset) -> dict[str, Any]:
    """LUTDescriptor as numbers and LUTData as an array, u16; None for what is absent."""
    descriptor, data = item.get("LUTDescriptor"), item.get("LUTData")
    table = {"LUTDescriptor": None if descriptor is None else list(descriptor), "LUTData": None}
    if isinstance(data, bytes):
        # Entries of 8 bits may be packed two to a word.
        count = table["LUTDescriptor"][0] & 0xFFFF if table["LUTDescriptor"] else 0
        packed = count > 2 and len(data) == count + count % 2
        little_endian = item.original_encoding[1] is not False
        data = np.frombuffer(data, np.uint8 if packed else "<u2" if little_endian else ">u2")
    if data is not None:
        table["LUTData"] = np.asarray(data).astype(np.uint16)
    return table


def _plain(value: Any) -> object:
    """pydicom's own numbers and lists as Python's."""
    if isinstance(value, (bytes, list)):
        return value
    if isinstance(value, (str, int, float)):
        kind = next(kind for kind in (str, int, float) if isinstance(value, kind))
        return kind(value)
    return [_plain(one) for one in value] if isinstance(value, Iterable) else str(value)


def _join_fragments(data: bytes, path: Path | str) -> bytes:
    """The one frame of encapsulated pixel data (PS3.5 A.4)."""
    try:
        return next(generate_frames(data, number_of_frames=1))
    except Exception as error:  # broken lengths fail in as many ways as there are places to be broken
        field = meaning.tag_name(_PIXELS)
        raise ImageError(path, field, found=error, expected="encapsulated fragments of one frame") from error
