"""The leak audit: patients, studies and images that stand on both sides of an evaluation.

A model that has seen a patient's images, or the very image, scores better on it than on new ones. Ids tell
where they are comparable; where they are not, or are wrong, the pixels do (siimdet.data.same_images).

The audit is plain JSON values, lists sorted by their ids; every finding says whether it is a `leak`.

within, in one data set:
  patients_across_splits, studies_across_splits  `patient_id` or `study_id` and `splits`, its number of images
      in each; patients_across_folds, studies_across_folds the same with `folds`. All of them leak.
  same_images  `left` and `right`, the image ids, and the `patients`, `splits` and `folds` of both; the
      `similarity` of what they show, whether they are `identical` to the pixel or one `inverted`, the negative
      of the other. They leak if the splits or the folds differ. Of a group of copies not every pair is
      reported, but every image, and with one that it leaks to.
against, for each other data set, its folder's name as `root`, its `source` and `fingerprint`:
  patients, studies  ids that are in both, with `splits` here and `against_splits` there. Ids are compared
      within one published archive alone: other sources take them from file names, which number from 1 in each.
      Patients also between RSNA and NIH, where converted RSNA images carry their NIH patient.
  mapped_images  pairs that RSNA's column `nih_image` names, `left` the one here, in either direction.
  same_images  pairs found by their pixels, as above.
      All of these leak if they train on the one side and are for evaluation, val or test, on the other.
leaks  the number of findings that leak; one image may be in several.
leaking_images  the number of images of this data set that are in any of them: in a pair, or of such a patient or study.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Any

from siimdet.core.types import SPLITS, ImageRecord
from siimdet.data.dataset import Dataset
from siimdet.data.look_alikes import Copy
from siimdet.data.prints import read_prints
from siimdet.data.same_images import copies_between, copies_within

NIH, RSNA = "nih", "rsna"
ARCHIVES = frozenset({"siim", RSNA, NIH, "covidx", "covid-ct", "mia-cov19d"})
"""Sources that are one published archive, in which an id means one patient or study."""

NIH_IMAGE = "nih_image"
"""Source column of RSNA: the image's id in the NIH set, or nothing."""

_Finding = dict[str, Any]
_Checks = dict[str, list[_Finding]]


def audit(
    dataset: Dataset, against: Sequence[Dataset] = (), *, progress: Callable[[int, int], None] | None = None
) -> dict[str, Any]:
    """What leaks between the parts of a data set, and between it and others: see the top of this file.

    progress is called with the images read and all there are.
    Raises: ImageError for an image that cannot be read.
    """
    everything = (dataset, *against)
    total, done = sum(len(each.records) for each in everything), 0

    def count() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(done, total)

    prints = [read_prints(each.root, each.records, read=count) for each in everything]
    copies = [copies_within(each, _parted) for each in prints]
    within = _within(dataset, copies[0])
    others = [
        _against(dataset, other, copies_between(prints[0], prints[i], copies[0], copies[i], _crosses))
        for i, other in enumerate(against, start=1)
    ]
    findings = [finding for checks in (within, *others) for found in checks.values() for finding in found]
    return {
        "within": within,
        "against": [
            {"root": other.root.absolute().name, "source": other.source, "fingerprint": other.fingerprint, **checks}
            for other, checks in zip(against, others, strict=True)
        ],
        "leaks": sum(finding["leak"] for finding in findings),
        "leaking_images": len(_leaking_images(dataset, within, others)),
    }


def _leaking_images(dataset: Dataset, within: _Checks, others: Iterable[_Checks]) -> set[str]:
    images: set[str] = set()
    ids: dict[str, set[str]] = {"patient_id": set(), "study_id": set()}
    for sides, checks in ((("left", "right"), within), *((("left",), checks) for checks in others)):
        for finding in (finding for found in checks.values() for finding in found if finding["leak"]):
            images.update(finding[side] for side in sides if side in finding)
            for id_field, names in ids.items():
                names.update([finding[id_field]] if id_field in finding else ())
    for record in dataset.records:
        if record.patient_id in ids["patient_id"] or record.study_id in ids["study_id"]:
            images.add(record.image_id)
    return images


def _within(dataset: Dataset, copies: Iterable[Copy]) -> _Checks:
    records = dataset.records
    return {
        "patients_across_splits": _across(records, "patient_id", "split"),
        "patients_across_folds": _across(records, "patient_id", "fold"),
        "studies_across_splits": _across(records, "study_id", "split"),
        "studies_across_folds": _across(records, "study_id", "fold"),
        "same_images": [_copies_here(records[copy.left], records[copy.right], copy) for copy in copies],
    }


def _against(dataset: Dataset, other: Dataset, copies: Iterable[Copy]) -> _Checks:
    sources = {dataset.source, other.source}
    pairs = ((dataset.records[copy.left], other.records[copy.right], copy) for copy in copies)
    one_archive = len(sources) == 1 and sources <= ARCHIVES
    return {
        "patients": _shared(dataset, other, "patient_id") if one_archive or sources == {NIH, RSNA} else [],
        "studies": _shared(dataset, other, "study_id") if one_archive else [],
        "mapped_images": [_pair(left, right, {}, _crosses(left, right)) for left, right in _mapped(dataset, other)],
        "same_images": [_pair(left, right, _likeness(copy), _crosses(left, right)) for left, right, copy in pairs],
    }


def _across(records: Iterable[ImageRecord], id_field: str, part_field: str) -> list[_Finding]:
    found = ((name, parts) for name, parts in _parts(records, id_field, part_field).items() if len(parts) > 1)
    return [{id_field: name, f"{part_field}s": parts, "leak": True} for name, parts in sorted(found)]


def _shared(dataset: Dataset, other: Dataset, id_field: str) -> list[_Finding]:
    here, there = (_parts(each.records, id_field, "split") for each in (dataset, other))
    return [
        {id_field: name, "splits": here[name], "against_splits": there[name], "leak": _leaks(here[name], there[name])}
        for name in sorted(here.keys() & there.keys())
    ]


def _parts(records: Iterable[ImageRecord], id_field: str, part_field: str) -> dict[str, dict[str, int]]:
    """Per id the number of its images in each split or fold, in order."""
    counts: defaultdict[str, Counter] = defaultdict(Counter)
    for record in records:
        if (part := getattr(record, part_field)) is not None:
            counts[getattr(record, id_field)][part] += 1
    order = SPLITS.index if part_field == "split" else int
    return {name: {str(part): parts[part] for part in sorted(parts, key=order)} for name, parts in counts.items()}


def _mapped(dataset: Dataset, other: Dataset) -> list[tuple[ImageRecord, ImageRecord]]:
    if (dataset.source, other.source) == (NIH, RSNA):
        pairs = [(left, right) for right, left in _mapped(other, dataset)]
        return sorted(pairs, key=lambda pair: (pair[0].image_id, pair[1].image_id))
    if (dataset.source, other.source) != (RSNA, NIH):
        return []
    known = {record.image_id: record for record in other.records}
    names = ((record, record.source.get(NIH_IMAGE, "")) for record in dataset.records)
    return [(record, known[name]) for record, name in names if name in known]


def _copies_here(left: ImageRecord, right: ImageRecord, copy: Copy) -> _Finding:
    return _pair(left, right, {"folds": [left.fold, right.fold], **_likeness(copy)}, _parted(left, right))


def _pair(left: ImageRecord, right: ImageRecord, details: Mapping[str, Any], leak: bool) -> _Finding:
    patients, splits = [left.patient_id, right.patient_id], [left.split, right.split]
    ids = {"left": left.image_id, "right": right.image_id, "patients": patients, "splits": splits}
    return {**ids, **details, "leak": leak}


def _likeness(copy: Copy) -> dict[str, Any]:
    return {"similarity": copy.similarity, "identical": copy.identical, "inverted": copy.inverted}


def _parted(left: ImageRecord, right: ImageRecord) -> bool:
    """Whether the split or the fold keeps two images of one data set apart."""
    folds = {left.fold, right.fold}
    return left.split != right.split or (None not in folds and len(folds) == 2)


def _crosses(left: ImageRecord, right: ImageRecord) -> bool:
    return _leaks({left.split}, {right.split})


def _leaks(here: Collection[str], there: Collection[str]) -> bool:
    """Whether one side trains on what the other evaluates on."""
    return any("train" in one and not {"val", "test"}.isdisjoint(two) for one, two in ((here, there), (there, here)))
