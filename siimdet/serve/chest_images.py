"""Which objects of a study are frontal chest radiographs, by what the archive tells of them."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from siimdet.errors import ImageError

if TYPE_CHECKING:
    from siimdet.serve.archive import Instance

MODALITIES = ("CR", "DX")
_FOR_PROCESSING = "1.2.840.10008.5.1.4.1.1.1.1.1"
CLASSES = (
    *("1.2.840.10008.5.1.4.1.1.1", "1.2.840.10008.5.1.4.1.1.1.1", _FOR_PROCESSING),
    "1.2.840.10008.5.1.4.1.1.7",  # Secondary Capture, as which radiographs are often exported
)
"""SOP classes of radiographs: CR, DX for presentation and for processing, Secondary Capture."""
_LATERAL = frozenset(("LL", "RL", "LLO", "RLO", "LAT", "LATERAL"))
# Of the terms of PS3.16 Annex L for BodyPartExamined, those that show no lung.
_ELSEWHERE = frozenset(
    (
        *("ABDOMEN", "ANKLE", "ARM", "BREAST", "CALCANEUS", "COCCYX", "CSPINE", "ELBOW", "EXTREMITY", "FEMUR"),
        *("FINGER", "FOOT", "FOREARM", "HAND", "HEAD", "HIP", "HUMERUS", "JAW", "KNEE", "LEG", "LSPINE", "MANDIBLE"),
        *("NECK", "PATELLA", "PELVIS", "SACRUM", "SIJOINT", "SKULL", "SSPINE", "THUMB", "TOE", "WRIST", "ZYGOMA"),
    )
)


def frontal_chest(instances: Sequence["Instance"]) -> list["Instance"]:
    """The images to look at, sorted by UID; an image that does not tell its body part or view is one.

    Of a detector's raw images (for processing) those are left out that come with images for presentation.
    Raises: ImageError if there is none.
    """
    images = [each for each in instances if each.modality in MODALITIES and each.sop_class in CLASSES]
    if not images:
        raise ImageError("study", "image", found="none of CR or DX", expected="a radiograph")
    chest = [each for each in images if each.body_part.upper() not in _ELSEWHERE]
    if not chest:
        parts = ", ".join(sorted({each.body_part for each in images}))
        raise ImageError("study", "BodyPartExamined", found=parts, expected="CHEST, or none told")
    frontal = [each for each in chest if each.view.upper() not in _LATERAL]
    if not frontal:
        views = ", ".join(sorted({each.view for each in chest}))
        raise ImageError("study", "ViewPosition", found=views, expected="PA or AP, or none told")
    shown = [each for each in frontal if each.sop_class != _FOR_PROCESSING] or frontal
    return sorted(shown, key=lambda each: each.sop_uid)
