"""The page of `inspect`: what a data set holds, in counts and pictures."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from siimdet.data.dataset import Dataset
from siimdet.data.distributions import NONE
from siimdet.data.table import read_table
from siimdet.errors import DatasetError
from siimdet.report.counts import count, counts_table, percent, shares_table
from siimdet.report.distributions import boxes
from siimdet.report.elements import DASH, TIMES, element, table
from siimdet.report.leaks import leaks, verdict
from siimdet.report.page import stats, write_page
from siimdet.report.samples import samples

_TABLES = ("failures.csv", "repairs.csv")


def write_inspection(path: Path, dataset: Dataset, summary: dict[str, Any], audit: dict[str, Any]) -> None:
    """Write the page as one HTML file, atomically; equal data sets give equal bytes.

    `summary` is that of siimdet.data.summary, `audit` that of siimdet.data.audit.
    Raises: ImageError for a sample that cannot be read; DatasetError for a broken failures.csv or repairs.csv.
    """
    sections = {
        "Counts": _counts(summary),
        "Classes": _classes(summary),
        "Boxes": boxes(summary),
        "Images": _images(summary),
        "Samples": samples(dataset),
        "Leaks": leaks(audit),
        "Files": _files(dataset),
    }
    write_page(
        path,
        title=f"{dataset.source} data set",
        subtitle=f"{dataset.root.absolute().name}, fingerprint {dataset.fingerprint[:16]}",
        opening=[*_opening(summary), *verdict(audit)],
        sections=sections,
    )


def _opening(summary: Mapping[str, Any]) -> list[Element]:
    said = element("span", "images", element("br"), f"of {count(summary['patients'])} patients", class_="explains")
    hero = element("p", element("span", count(summary["images"]), class_="headline"), said, class_="hero")
    share = percent(summary["images_with_boxes"] / summary["images"]) if summary["images"] else percent(0)
    figures = {
        "studies": count(summary["studies"]),
        "boxes": count(summary["boxes"]),
        "of the images have boxes": share,
        "bits per pixel": str(summary["bit_depth"]),
    }
    return [hero, stats(figures)]


def _counts(summary: Mapping[str, Any]) -> list[Element]:
    parts = {**summary["splits"], "all": summary}
    caption = "By split"
    if any((summary["published"] or {}).values()):
        parts["published"] = summary["published"]
        caption = "By split; published are the counts of the source's own label tables"
    tables = [counts_table(caption, parts)]
    if folds := summary["folds"]:
        columns = {fold: {"images": (images, sum(folds.values()))} for fold, images in folds.items()}
        tables.append(shares_table("Images by fold, and their share of those that have one", "Fold", columns))
    return tables


def _classes(summary: Mapping[str, Any]) -> list[Element]:
    drawn = summary["distributions"]
    parts = []
    if summary["labels"]:
        parts.append(_labels("images", {"all": summary["labels"]} | drawn["labels"]))
    if summary["labels"] and drawn["study_labels"]:
        parts.append(_labels("studies", drawn["study_labels"]))
    if summary["classes"]:
        parts.append(_box_classes(summary))
    return parts or [element("p", "The data set has neither labels nor box classes.")]


def _labels(what: str, parts: Mapping[str, Mapping[str, Mapping[str, int]]]) -> Element:
    """Positive images or studies by label, in all and in every split, as shares of those where it is known."""
    columns = {
        part: {label: (n["positive"], n["positive"] + n["negative"]) for label, n in labels.items()}
        for part, labels in parts.items()
    }
    unknown = {label: count(n["unknown"]) for label, n in parts["all"].items()}
    further = {"unknown": unknown} if any(n["unknown"] for n in parts["all"].values()) else {}
    caption = f"Labels: {what} where each is positive, and their share of the known ones"
    return shares_table(caption, "Label", columns, further)


def _box_classes(summary: Mapping[str, Any]) -> Element:
    drawn = summary["distributions"]
    parts = {"all": summary["classes"]} | drawn["classes"]
    columns = {
        part: {name: (boxes, sum(classes.values())) for name, boxes in classes.items()}
        for part, classes in parts.items()
    }
    per_image = drawn["boxes_per_image"]["classes"]
    further = {
        "images with it": {name: count(summary["images"] - found.get("0", 0)) for name, found in per_image.items()},
        "most per image": {name: max(found, key=int, default="0") for name, found in per_image.items()},
    }
    return shares_table("Box classes: boxes of each, and their share of all boxes", "Class", columns, further)


def _images(summary: Mapping[str, Any]) -> list[Element]:
    if not summary["images"]:
        return [element("p", "The data set has no image.")]
    found = summary["distributions"]["image_sizes"]
    bits = _raw_values(summary, "bits", "Bits of the raw files", "Bits")
    caption = f"Photometric interpretation of the raw files; {NONE}: a copy without one"
    photometric = _raw_values(summary, "photometric", caption, "Photometric")
    if found["stored"] == found["original"]:
        stacks = [_sizes(summary, "stored", "Stored and original sizes")], [bits, photometric]
    else:
        stored, original = (_sizes(summary, space, f"{space.capitalize()} sizes") for space in ("stored", "original"))
        stacks = [stored, bits, photometric], [original]
    return [element("div", *(element("div", *stack) for stack in stacks), class_="pair")]


def _sizes(summary: Mapping[str, Any], space: str, title: str) -> Element:
    images, found, limits = summary["images"], summary["distributions"]["image_sizes"][space], summary["sizes"][space]
    rows = {f"{size['width']} {TIMES} {size['height']}": (size["images"], images) for size in found["common"]}
    if others := images - sum(size["images"] for size in found["common"]):
        rows[f"{count(found['different'] - len(found['common']))} other sizes"] = (others, images)
    width, height = (f"{limits[side]['least']} to {limits[side]['most']} px" for side in ("width", "height"))
    number = found["different"]
    different = f"{count(number)} different, {width} wide and {height} high" if number > 1 else "all alike"
    return shares_table(f"{title}, width {TIMES} height: {different}", "Size", {"images": rows})


def _raw_values(summary: Mapping[str, Any], key: str, caption: str, name: str) -> Element:
    rows = {value: (images, summary["images"]) for value, images in summary["distributions"][key].items()}
    return shares_table(caption, name, {"images": rows})


def _files(dataset: Dataset) -> list[Element]:
    facts = {"folder": dataset.root.absolute().name, "fingerprint": dataset.fingerprint}
    for name, value in dataset.details.items():
        if name != "counts":
            facts |= _flat(name, value)
    for name in _TABLES:
        if (dataset.root / name).is_file():
            facts[name] = f"{count(len(read_table(dataset.root / name, (), kind=DatasetError).rows))} rows"
    return [table("How the data set was made", ("Fact", "Value"), list(facts.items()), class_="card facts")]


def _flat(name: str, value: Any) -> dict[str, str]:
    """Text by name; an object of dataset.json gives one per key."""
    if isinstance(value, Mapping):
        return {f"{name}: {key}": _text(inner) for key, inner in value.items()}
    return {name: _text(value)}


def _text(value: Any) -> str:
    if value is None:
        return DASH
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
