"""Which raw DICOM file an image id means."""

import os
from collections import defaultdict
from collections.abc import Iterable
from functools import cached_property
from pathlib import Path, PurePosixPath

from siimdet.errors import ImageError, SourceError
from siimdet.imaging.dicom import read_header_ids

_SUFFIXES = (".dcm", ".dicom", ".ima")


class DicomFiles:
    """The files below a raw folder, found by name, else by the SOPInstanceUID in their headers."""

    def __init__(self, raw: Path, places: Iterable[str]) -> None:
        """`places` are the files' paths below `raw`, with slashes; those that are no DICOM are never found."""
        self.raw = raw
        self._places = tuple(places)

    def find(self, image_id: str, listed: str = "") -> str:
        """The place of an image: the one that a data set lists for it, if a file is there, else by its id.

        Raises: SourceError if there is no file of that name or UID, or several.
        """
        if listed and os.path.isfile(self.raw / listed):
            return listed
        found = self._by_name.get(image_id) or self._by_uid.get(image_id) or []
        if len(found) != 1:
            expected = f"one DICOM file with the name or SOPInstanceUID {image_id}"
            raise SourceError(self.raw, "image file", found=" and ".join(found) or "none", expected=expected)
        return found[0]

    @cached_property
    def _by_name(self) -> dict[str, list[str]]:
        names: dict[str, list[str]] = defaultdict(list)
        for place in self._places:
            path = PurePosixPath(place)
            names[path.name].append(place)
            # A UID as a name ends in what looks like a suffix.
            if path.suffix.lower() in _SUFFIXES:
                names[path.stem].append(place)
        return names

    @cached_property
    def _by_uid(self) -> dict[str, list[str]]:
        """Reads every header: asked for only where a name does not tell."""
        uids: dict[str, list[str]] = defaultdict(list)
        for place in self._places:
            try:
                uids[read_header_ids(self.raw / place).sop_uid].append(place)
            except ImageError:  # no DICOM file, or a broken one, which no id can mean
                continue
        return uids
