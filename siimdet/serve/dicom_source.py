"""The radiographs that DICOM results stand on: their pixels, and of their headers what results repeat.

A header is taken element by element: what is named here, and only what its own kind of value allows.
"""

import logging
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pydicom import config, dcmread, uid
from pydicom.charset import python_encoding
from pydicom.config import disable_value_validation
from pydicom.datadict import dictionary_VR, tag_for_keyword
from pydicom.dataset import Dataset
from pydicom.multival import MultiValue
from pydicom.valuerep import validate_value

from siimdet.core.types import ImageSize
from siimdet.errors import ImageError
from siimdet.imaging.dicom import read_radiograph
from siimdet.imaging.radiograph import Radiograph

IDENTITY = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex", "StudyInstanceUID", "StudyDate", "StudyTime"),
    *("AccessionNumber", "ReferringPhysicianName", "StudyID"),
)
"""Patient and study as every object must have them: type 1 and 2 of PS3.3 C.7.1.1 and C.7.2.1."""
OPTIONAL_IDENTITY = ("IssuerOfPatientID", "PatientAge", "StudyDescription", "TimezoneOffsetFromUTC")
"""Further ones that are repeated where they are there."""

_UIDS = ("SOPClassUID", "SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID")
_NAMES = ("PatientName", "PatientID", "AccessionNumber", "ReferringPhysicianName", "StudyID")
_IMAGE = (
    *("Rows", "Columns", "SamplesPerPixel", "BodyPartExamined", "PatientOrientation"),
    *("LossyImageCompression", "LossyImageCompressionRatio", "LossyImageCompressionMethod"),
    *("Manufacturer", "ManufacturerModelName", "DeviceSerialNumber", "InstitutionName", "StationName"),
)
_CLASSES = (
    uid.ComputedRadiographyImageStorage,
    uid.DigitalXRayImageStorageForPresentation,
    uid.DigitalXRayImageStorageForProcessing,
    uid.XRayRadiofluoroscopicImageStorage,
    uid.XRayAngiographicImageStorage,
    uid.CTImageStorage,
    uid.SecondaryCaptureImageStorage,
)
# pydicom logs what it cannot decode: names of patients.
logging.getLogger("pydicom").setLevel(logging.ERROR)

_CHARACTERS = "SpecificCharacterSet"


@dataclass(frozen=True, slots=True, eq=False)
class Source:
    """A radiograph's file, its pixels, and its header as results repeat it.

    `header` has IDENTITY, empty where the file lacks one or breaks its kind of value, and further elements where
    they are sound.
    """

    file: str
    header: Dataset
    radiograph: Radiograph

    @property
    def size(self) -> ImageSize:
        """Columns and Rows: the original size of the image."""
        height, width = self.radiograph.pixels.shape
        return ImageSize(width, height)


def read_source(path: Path | str) -> Source:
    """Read a DICOM file of one grey frame.

    Raises: ImageError as read_radiograph, and for a header without the four UIDs that results refer to, of a
    class that shows no radiograph, or with names and ids that their kind of value does not allow: results under other
    names would lie with another patient.
    """
    radiograph = read_radiograph(path)
    wanted = [tag for keyword in _keywords() if (tag := tag_for_keyword(keyword)) is not None]
    with warnings.catch_warnings(), disable_value_validation():
        # pydicom warns about each bad value; those that matter are refused by name.
        warnings.simplefilter("ignore")
        found = dcmread(path, stop_before_pixels=True, specific_tags=list(wanted))
        return Source(str(path), _header(found, path), radiograph)


def _keywords() -> Iterable[str]:
    return dict.fromkeys((_CHARACTERS, *_UIDS, *IDENTITY, *OPTIONAL_IDENTITY, *_IMAGE))


def _header(found: Dataset, path: Path | str) -> Dataset:
    header = Dataset()
    _copy_characters(found, header, path)
    for keyword in _keywords():
        if keyword == _CHARACTERS:
            continue
        value, wrong = _value(found, keyword)
        if wrong and keyword in (*_UIDS, *_NAMES):
            raise ImageError(path, keyword, found=wrong, expected="a valid value")
        if value is None and keyword in _UIDS:
            raise ImageError(path, keyword, found="nothing", expected="a UID")
        if value is not None:
            setattr(header, keyword, value)
        elif keyword in IDENTITY:
            setattr(header, keyword, "")
    if header.SOPClassUID not in _CLASSES:
        expected = "a radiograph (CR, DX, RF, XA), CT slice or Secondary Capture"
        raise ImageError(path, "SOPClassUID", found=uid.UID(header.SOPClassUID).name, expected=expected)
    return header


def _copy_characters(found: Dataset, header: Dataset, path: Path | str) -> None:
    """The character set stays, so that names are stored in the same bytes."""
    if not (characters := found.get(_CHARACTERS)):
        return
    terms = [characters] if isinstance(characters, str) else list(characters)
    if unknown := [term for term in terms if term not in python_encoding]:
        raise ImageError(path, _CHARACTERS, found=repr(unknown[0]), expected="a character set of the standard")
    setattr(header, _CHARACTERS, characters)


def _value(found: Dataset, keyword: str) -> tuple[object, str]:
    """An element's value, None for an absent, empty or unsound one, and what is wrong with it."""
    try:
        value = found.get(keyword)
        if value is None or value == "" or value == []:
            return None, ""
        kind = dictionary_VR(keyword)
        for one in value if isinstance(value, MultiValue) else [value]:
            if keyword in _UIDS and one is not value:
                raise ValueError("several values")
            if "\ufffd" in str(one):
                raise ValueError("bytes outside its character set")
            validate_value(kind, str(one) if kind in ("DS", "IS", "PN") else one, config.RAISE)
    except Exception as error:  # converting and judging bytes fail in as many ways as there are kinds of value
        return None, str(error).split(". Please see")[0]
    return value, ""
