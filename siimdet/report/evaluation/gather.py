"""From scored files to the evaluation that a report shows."""

from collections.abc import Sequence
from pathlib import Path

import siimdet
from siimdet.core.files import sha256_file
from siimdet.data.manifest import read_dataset
from siimdet.errors import SubmissionError
from siimdet.report.counts import count
from siimdet.report.evaluation.contents import Evaluation
from siimdet.submission.evaluate_pair import Pair
from siimdet.submission.judged import PLURALS, Judged
from siimdet.submission.scored import Scored, drawn_text
from siimdet.submission.truth_files import TruthFiles


def gather(
    scored: Scored,
    against: TruthFiles,
    *,
    detectors: Sequence[Scored] = (),
    other: Pair | None = None,
    blanked: Pair | None = None,
) -> Evaluation:
    """A scored file beside the detectors that were fused into it, a second file, and one of blanked borders.

    Raises: SubmissionError for detectors of other images or of one name.
    """
    pairs = [pair for pair in (other, blanked) if pair is not None]
    files = [scored.file, *(pair.second.file for pair in pairs), *(detector.file for detector in detectors)]
    return Evaluation(
        title=f"Evaluation of {scored.file.name}",
        subtitle=_subtitle(scored.judged, against),
        name=scored.file.name,
        scored=scored,
        detectors=_by_name(scored, detectors),
        other=other and (other.second.file.name, other),
        blanked=blanked and (blanked.second.file.name, blanked),
        facts=_truth_facts(against) | _file_facts(files) | _drawn_facts(scored) | {"siimdet": siimdet.__version__},
    )


def _by_name(scored: Scored, detectors: Sequence[Scored]) -> dict[str, Scored]:
    images = {case.image_id for case in scored.judged.cases}
    named: dict[str, Scored] = {}
    for detector in detectors:
        name = detector.file.stem
        if scored.judged.boxes is None or detector.judged.boxes is None:
            found = f"{scored.file.name} and {detector.file.name}"
            raise SubmissionError(detector.file, "--boxes", found=found, expected="a file with boxes, and COCO results")
        if name in named:
            raise SubmissionError(detector.file, "--boxes", found=f"{name} twice", expected="a name of its own")
        if odd := sorted(images ^ {case.image_id for case in detector.judged.cases}):
            found = f"{odd[0]!r} in one of the files ({len(odd)} such images)"
            raise SubmissionError(detector.file, "--boxes", found=found, expected=f"the images of {scored.file.name}")
        named[name] = detector
    return named


def _subtitle(judged: Judged, against: TruthFiles) -> str:
    owners = len(set(judged.owners))
    truth = against.dataset or against.image_level
    assert truth is not None, "neither a data set nor tables"
    images = f"{count(len(judged.cases))} images of {count(owners)} {PLURALS[judged.unit]}"
    return f"{images}; truth: {truth.absolute().name}"


def _truth_facts(against: TruthFiles) -> dict[str, str]:
    if against.dataset is not None:
        data = read_dataset(against.dataset)
        split = {} if against.split is None else {"split": against.split}
        return {"data set": f"{data.root.absolute().name} ({data.source}), fingerprint {data.fingerprint}", **split}
    tables = (against.image_level, against.study_level, against.patients, against.sources)
    return _file_facts([path for path in tables if path is not None])


def _file_facts(files: Sequence[Path]) -> dict[str, str]:
    return {file.name: f"SHA-256 {sha256_file(file)}" for file in files}


def _drawn_facts(scored: Scored) -> dict[str, str]:
    if scored.drawn is None:
        return {}
    return {"intervals": drawn_text(scored.drawn.as_dict()["bootstrap"])}
