"""COVID-CT: slices of CT scans, cut from the figures of papers, with official lists of three parts.

Data-split/CLASS/{train,val,test}CT_CLASS.txt hold a file name per line, with blanks and `%` in it;
Images/CT_CLASS/ holds the files. Panels of one figure are named `FIGURE%0`, `FIGURE%1` and so on.
Source: Yang et al., arXiv:2003.13865; https://github.com/UCSD-AI4H/COVID-CT
"""

from collections import defaultdict
from pathlib import Path, PurePosixPath

from converters.labels import NO_SPACE, one_hot
from converters.lists import check_below, read_lines
from converters.names import image_ids, mended, renamings
from converters.raw_files import walk, walk_images
from converters.source import Item, Source, Tables
from siimdet.core.types import LabelSpace, Split
from siimdet.errors import SourceError

CLASSES = LabelSpace("covid-ct", ("NonCOVID", "COVID"))
PARTS: tuple[Split, ...] = ("train", "val", "test")

_FilesByName = dict[str, list[str]]


def read_tables(raw: Path) -> Tables:
    """The lists that are there; lists and image folders may lie at any depth below `raw`.

    The lists name no patients: the panels of a figure count as one, every other image for itself.
    """
    by_name, lists = _files_by_name(raw), _find_lists(raw)
    rows: dict[str, tuple[str, Split]] = {}
    for path, label, part in lists:
        for line, text in read_lines(path):
            where = f"{path}:{line}"
            place = _place(where, by_name[label], label, text)
            if place in rows:
                raise SourceError(where, "name", found=f"{text.strip()} again", expected="every image once")
            rows[place] = (label, part)
    if not rows:
        found = "empty lists" if lists else "no list"
        raise SourceError(
            raw, "Data-split", found=found, expected=f"lists such as train{_folder(CLASSES.names[0])}.txt"
        )
    ids = image_ids(rows)
    items = [_item(place, ids[place], *row) for place, row in rows.items()]
    files = tuple(path for path, _, _ in lists)
    return Tables(tuple(sorted(items, key=lambda item: item.image_id)), files, CLASSES, NO_SPACE)


def _item(place: str, image_id: str, label: str, part: Split) -> Item:
    figure, panel, _ = PurePosixPath(place).stem.rpartition("%")
    return Item(
        image_id=image_id,
        study_id=image_id,
        labels=one_hot(CLASSES, label),
        # With the mark of a panel: the list has 33.png and, elsewhere, 33%0.jpg.
        patient_id=mended(f"{label}-{figure}{panel}") if panel else image_id,
        place=place,
        official=part,
        columns={"file": place},
        repairs=renamings(place, image_id),
    )


def _place(where: str, by_name: _FilesByName, label: str, text: str) -> str:
    """Path of a listed image; where there is none, the one that its failure shall name."""
    name = check_below(where, "name", text if text in by_name else text.strip())
    places = by_name.get(name) or [f"{_folder(label)}/{name}"]
    if len(places) > 1:
        raise SourceError(where, "name", found=" and ".join(places), expected="one file of that name")
    return places[0]


def _files_by_name(raw: Path) -> dict[str, _FilesByName]:
    """Paths of the images by their class and name; the class is that of the nearest folder CT_CLASS."""
    found: dict[str, _FilesByName] = {label: defaultdict(list) for label in CLASSES.names}
    labels = {_folder(label): label for label in CLASSES.names}
    for place in walk_images(raw):
        *folders, name = place.split("/")
        label = next((labels[folder] for folder in reversed(folders) if folder in labels), None)
        if label:
            found[label][name].append(place)
    return found


def _find_lists(raw: Path) -> list[tuple[Path, str, Split]]:
    """The lists, with their class and part, in the order of CLASSES and PARTS."""
    found: dict[str, list[Path]] = defaultdict(list)
    for place in walk(raw):
        found[PurePosixPath(place).name].append(raw / place)
    lists: list[tuple[Path, str, Split]] = []
    for label in CLASSES.names:
        for part in PARTS:
            name = f"{part}{_folder(label)}.txt"
            if len(found[name]) > 1:
                raise SourceError(raw, name, found=" and ".join(map(str, found[name])), expected="one such list")
            lists.extend((path, label, part) for path in found[name])
    return lists


def _folder(label: str) -> str:
    return f"CT_{label}"


COVID_CT = Source(name="covid-ct", read=read_tables, knows_patients=False)
"""COVID or NonCOVID; one holds."""
