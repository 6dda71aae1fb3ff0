"""Write a radiograph as a DICOM file: what the phantoms are made of.

Computed Radiography Image Storage, the class of most of SIIM's files and of all of RSNA's. The same
arguments always give the same bytes: no dates, no generated UIDs.
"""

from pathlib import Path
from typing import Literal

import imagecodecs
import numpy as np
from numpy.typing import NDArray
from pydicom import uid
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence

from siimdet.core.files import atomic_write

Syntax = Literal["explicit", "implicit", "rle", "jpeg-lossless", "jpeg"]

_SYNTAX_UIDS: dict[Syntax, uid.UID] = {
    "explicit": uid.ExplicitVRLittleEndian,
    "implicit": uid.ImplicitVRLittleEndian,
    "rle": uid.RLELossless,
    "jpeg-lossless": uid.JPEGLosslessSV1,
    "jpeg": uid.JPEGBaseline8Bit,
}
_JPEG_QUALITY = 95


def write_radiograph(
    path: Path | str,
    pixels: NDArray[np.integer],
    *,
    patient_id: str,
    study_uid: str,
    series_uid: str,
    sop_uid: str,
    bits_stored: int,
    photometric: Literal["MONOCHROME1", "MONOCHROME2"] = "MONOCHROME2",
    syntax: Syntax = "explicit",
    rescale: tuple[float, float] | None = None,
    window: tuple[float, float] | None = None,
    voi_lut: NDArray[np.uint16] | None = None,
    padding: int | None = None,
) -> None:
    """Write one frame, atomically.

    Shapes: pixels u8, u16 or i16 [H, W], stored values of `bits_stored` bits; voi_lut u16[N], mapped
    from the value 0 on. `rescale` is (slope, intercept), `window` (centre, width) after the rescale,
    `padding` the stored value of pixels that show nothing.
    `syntax` "jpeg" is lossy and takes u8 only; the others keep every pixel.
    Raises: ValueError for pixels that the arguments cannot describe.
    Source: PS3.3 A.2 (CR Image IOD), PS3.5 section 8 and annex A.
    """
    _check_pixels(pixels, bits_stored, syntax)
    dataset = _identity(patient_id, study_uid, series_uid, sop_uid)
    _describe_pixels(dataset, pixels, bits_stored, photometric)
    if padding is not None:
        dataset.add_new("PixelPaddingValue", "SS" if pixels.dtype.kind == "i" else "US", padding)
    _describe_tables(dataset, rescale, window, voi_lut)
    _set_pixel_data(dataset, pixels, bits_stored, syntax)
    dataset.file_meta = _file_meta(sop_uid, syntax)
    with atomic_write(path, "wb") as stream:
        dataset.save_as(stream, enforce_file_format=True)


def _check_pixels(pixels: NDArray[np.integer], bits_stored: int, syntax: Syntax) -> None:
    if pixels.ndim != 2 or pixels.dtype not in (np.uint8, np.uint16, np.int16) or not pixels.size:
        raise ValueError(f"pixels are {pixels.dtype}{list(pixels.shape)}, expected u8, u16 or i16 [H, W]")
    if not 1 <= bits_stored <= 8 * pixels.itemsize:
        raise ValueError(f"{bits_stored} bits stored, expected 1 to {8 * pixels.itemsize} for {pixels.dtype}")
    low = -(1 << bits_stored - 1) if pixels.dtype.kind == "i" else 0
    if pixels.min() < low or pixels.max() >= low + (1 << bits_stored):
        raise ValueError(f"pixels from {pixels.min()} to {pixels.max()} do not fit into {bits_stored} bits")
    if syntax not in _SYNTAX_UIDS:
        raise ValueError(f"syntax {syntax!r}, expected one of {', '.join(_SYNTAX_UIDS)}")
    if syntax == "jpeg" and pixels.dtype != np.uint8:
        raise ValueError(f"{pixels.dtype} pixels, expected uint8 for the syntax 'jpeg'")
    if syntax == "jpeg-lossless" and pixels.dtype.kind == "i":
        raise ValueError(f"{pixels.dtype} pixels, expected unsigned ones for the syntax 'jpeg-lossless'")


def _identity(patient_id: str, study_uid: str, series_uid: str, sop_uid: str) -> Dataset:
    dataset = Dataset()
    dataset.SpecificCharacterSet = "ISO_IR 192"
    dataset.ImageType = ["ORIGINAL", "PRIMARY"]
    dataset.SOPClassUID = uid.ComputedRadiographyImageStorage
    dataset.SOPInstanceUID = sop_uid
    dataset.StudyInstanceUID = study_uid
    dataset.SeriesInstanceUID = series_uid
    dataset.Modality = "CR"
    dataset.PatientID = patient_id
    dataset.PatientName = patient_id
    dataset.BodyPartExamined = "CHEST"
    dataset.SeriesNumber = 1
    dataset.InstanceNumber = 1
    # Type 2 of the CR Image IOD: must be there, may be empty.
    for keyword in (
        *("PatientBirthDate", "PatientSex", "StudyDate", "StudyTime", "AccessionNumber", "ReferringPhysicianName"),
        *("StudyID", "Laterality", "Manufacturer", "PatientOrientation", "ViewPosition"),
    ):
        setattr(dataset, keyword, None)
    return dataset


def _describe_pixels(dataset: Dataset, pixels: NDArray[np.integer], bits_stored: int, photometric: str) -> None:
    dataset.SamplesPerPixel = 1
    dataset.PhotometricInterpretation = photometric
    dataset.Rows, dataset.Columns = pixels.shape
    dataset.BitsAllocated = 8 * pixels.itemsize
    dataset.BitsStored = bits_stored
    dataset.HighBit = bits_stored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")


def _describe_tables(
    dataset: Dataset,
    rescale: tuple[float, float] | None,
    window: tuple[float, float] | None,
    voi_lut: NDArray[np.uint16] | None,
) -> None:
    if rescale is not None:
        dataset.RescaleSlope, dataset.RescaleIntercept = (f"{value:.10g}" for value in rescale)
        dataset.RescaleType = "US"
    if window is not None:
        dataset.WindowCenter, dataset.WindowWidth = (f"{value:.10g}" for value in window)
    if voi_lut is not None:
        item = Dataset()
        # 65,536 entries are written as 0: the field has 16 bits (PS3.3 C.11.2.1.1).
        bits = max(8, int(voi_lut.max()).bit_length())
        item.add_new("LUTDescriptor", "US", [len(voi_lut) & 0xFFFF, 0, bits])
        item.add_new("LUTData", "OW", np.asarray(voi_lut, "<u2").tobytes())
        dataset.VOILUTSequence = Sequence([item])


def _set_pixel_data(dataset: Dataset, pixels: NDArray[np.integer], bits_stored: int, syntax: Syntax) -> None:
    pixels = np.ascontiguousarray(pixels)
    if syntax in ("explicit", "implicit"):
        raw = pixels.astype(pixels.dtype.newbyteorder("<")).tobytes()
        dataset.add_new("PixelData", "OW", raw + b"\0" * (len(raw) % 2))
        return
    if syntax == "rle":
        frame = _rle_frame(pixels)
    elif syntax == "jpeg-lossless":
        # The syntax promises the first predictor, which is not the default of any encoder at hand.
        frame = imagecodecs.jpeg8_encode(pixels, bitspersample=max(bits_stored, 2), lossless=True, predictor=1)
    else:
        frame = imagecodecs.jpeg8_encode(pixels, level=_JPEG_QUALITY)
        dataset.LossyImageCompression = "01"
        dataset.LossyImageCompressionRatio = f"{pixels.nbytes / len(frame):.4g}"
        dataset.LossyImageCompressionMethod = "ISO_10918_1"
    dataset.add_new("PixelData", "OB", encapsulate([bytes(frame)]))
    dataset["PixelData"].is_undefined_length = True


def _rle_frame(pixels: NDArray[np.integer]) -> bytes:
    """PS3.5 annex G: a header of 16 numbers, then a PackBits segment per byte plane, the high bytes first.

    Not by pydicom's encoder: it picks GDCM, which aborts the whole process on some widths.
    """
    planes = pixels.astype(pixels.dtype.newbyteorder(">")).view(np.uint8).reshape(*pixels.shape, pixels.itemsize)
    segments = []
    for index in range(pixels.itemsize):
        # No run may cross a row, so each row is packed for itself.
        packed = imagecodecs.packbits_encode(np.ascontiguousarray(planes[..., index]), axis=-1)
        segments.append(packed + b"\0" * (len(packed) % 2))
    offsets = np.cumsum([64, *map(len, segments)])[:-1]
    header = np.zeros(16, "<u4")
    header[0] = len(segments)
    header[1 : 1 + len(segments)] = offsets
    return header.tobytes() + b"".join(segments)


def _file_meta(sop_uid: str, syntax: Syntax) -> FileMetaDataset:
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.ComputedRadiographyImageStorage
    meta.MediaStorageSOPInstanceUID = uid.UID(sop_uid)
    meta.TransferSyntaxUID = _SYNTAX_UIDS[syntax]
    return meta
