"""Who made DICOM results, when, and the UIDs and headers that follow from it."""

import importlib.util
import json
import logging
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from siimdet.errors import MissingExtra, UserError
from siimdet.serve.dicom_source import IDENTITY, OPTIONAL_IDENTITY, Source

Kind = Literal["report", "presentation", "capture", "box", "study", "image", "device"]

MAKER = "siimdet"
DISCLAIMER = "Not for diagnosis"
_SERIES: dict[Kind, tuple[int, str]] = {
    "report": (9701, "findings as report"),
    "presentation": (9702, "boxes to lay over images"),
    "capture": (9703, "pictures with boxes"),
}
_DATES = ("InstanceCreation", "Content", "PresentationCreation")
_MAX_NAME = 48  # characters; series descriptions hold 64

# highdicom logs names of patients that it thinks odd.
logging.getLogger("highdicom").setLevel(logging.ERROR)


def require_highdicom() -> None:
    """Raise MissingExtra unless highdicom is there, which makes the objects."""
    if importlib.util.find_spec("highdicom") is None:
        raise MissingExtra("highdicom", "pacs")


@dataclass(frozen=True, slots=True)
class ModelIdentity:
    """What found the findings: a name, a version, and a digest that another model or other weights would not share.

    Raises: UserError for a name that DICOM cannot hold in any character set.
    """

    name: str
    version: str
    digest: str

    def __post_init__(self) -> None:
        if not (self.name.isascii() and self.name.isprintable() and 0 < len(self.name.strip()) <= _MAX_NAME):
            self._refuse()
        if "\\" in self.name or self.name != self.name.strip():
            self._refuse()

    def _refuse(self) -> None:
        expected = f"1 to {_MAX_NAME} printable ASCII characters without backslash"
        raise UserError("model", "name", found=repr(self.name), expected=expected)


@dataclass(frozen=True, slots=True)
class Origin:
    """What objects of one making share: the model, the least score of a box that is shown, and the time."""

    model: ModelIdentity
    threshold: float
    made: datetime

    def __post_init__(self) -> None:
        if not 0 <= self.threshold <= 1:
            raise UserError("threshold", "score", found=self.threshold, expected="a number from 0 to 1")

    def uid(self, kind: Kind, *sources: str) -> str:
        """The UID of what this model makes of these UIDs: the same whenever it does, so that it is stored once."""
        model = [self.model.name, self.model.version, self.model.digest, repr(float(self.threshold))]
        return str(generate_uid(entropy_srcs=[json.dumps([MAKER, kind, *model, *sources])]))

    def series(self, kind: Kind, source: Source) -> dict[str, Any]:
        """Series and equipment of a kind of object, as highdicom's constructors take them."""
        number, words = _SERIES[kind]
        return {
            "series_instance_uid": self.uid(kind, source.header.StudyInstanceUID),
            "series_number": number,
            "series_description": f"{MAKER} {words}, {DISCLAIMER.lower()}",
            "manufacturer": MAKER,
            "manufacturer_model_name": self.model.name,
            "software_versions": self.model.version,
            "device_serial_number": self.model.digest[:_MAX_NAME] or "0",
            "content_qualification": "RESEARCH",
            "specific_character_set": None,
        }


def is_ours(header: Dataset, kind: Kind) -> bool:
    """Whether a header has the maker and series number that Origin.series gives this kind of object."""
    return header.get("Manufacturer") == MAKER and header.get("SeriesNumber") == _SERIES[kind][0]


def nameless(source: Source) -> Dataset:
    """The header without patient and study but for its UID: what highdicom gets to see of it.

    It would refuse names and sexes that are not as it expects them; `finish` puts them in.
    """
    header = deepcopy(source.header)
    for keyword in IDENTITY:
        if keyword != "StudyInstanceUID":
            setattr(header, keyword, "")
    for keyword in OPTIONAL_IDENTITY:
        if keyword in header:
            delattr(header, keyword)
    return header


def name_body_part(made: Dataset, source: Source) -> None:
    """Say that an image or presentation state shows the chest where the source does, else that the side is unknown.

    A laterality must be given, may it be empty, unless the body part is known to have no sides (PS3.3 C.7.3.1).
    """
    if source.header.get("BodyPartExamined") == "CHEST":
        made.BodyPartExamined = "CHEST"
    else:
        made.Laterality = None


def finish(made: Dataset, source: Source, origin: Origin) -> None:
    """Put in patient, study and character set of the source, and the time of making."""
    for keyword in ("SpecificCharacterSet", *IDENTITY, *OPTIONAL_IDENTITY):
        if keyword in source.header:
            made.add(deepcopy(source.header[keyword]))
    date, time = origin.made.strftime("%Y%m%d"), origin.made.strftime("%H%M%S")
    for name in _DATES:
        if f"{name}Date" in made:
            setattr(made, f"{name}Date", date)
            setattr(made, f"{name}Time", time)
    for item in made.get("ContributingEquipmentSequence", ()):
        if "ContributionDateTime" in item and item.Manufacturer != source.header.get("Manufacturer"):
            item.ContributionDateTime = date + time
