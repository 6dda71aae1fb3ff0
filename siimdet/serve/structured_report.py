"""Findings of a study as a measurement report that other systems can read (TID 1500, Comprehensive 3D SR).

Source: PS3.16 TID 1500, 1410 (a box: a closed polyline on its image), 1501 (image and study level), 4019 (algorithm).
"""

from collections.abc import Mapping, Sequence

import numpy as np
from highdicom.coding_schemes import CodingSchemeIdentificationItem
from highdicom.sr import (
    AlgorithmIdentification,
    CodedConcept,
    Comprehensive3DSR,
    DeviceObserverIdentifyingAttributes,
    FindingSite,
    GraphicTypeValues,
    ImageRegion,
    Measurement,
    MeasurementReport,
    MeasurementsAndQualitativeEvaluations,
    ObservationContext,
    ObserverContext,
    PlanarROIMeasurementsAndQualitativeEvaluations,
    QualitativeEvaluation,
    RelationshipTypeValues,
    SourceImageForMeasurementGroup,
    SourceImageForRegion,
    TextContentItem,
    TrackingIdentifier,
)
from numpy.typing import NDArray
from pydicom.sr.codedict import codes

from siimdet.core.labels import STUDY
from siimdet.data.siim_tables import STUDY_COLUMNS
from siimdet.serve.dicom_identity import DISCLAIMER, MAKER, Origin, finish, nameless
from siimdet.serve.dicom_source import Source
from siimdet.serve.results import FoundBox

SCHEME = "99SIIMDET"
"""Of the codes that no public scheme has."""
OPACITY = CodedConcept("112001", "DCM", "Opacity")
CERTAINTY = CodedConcept("111012", "DCM", "Certainty of Finding")
APPEARANCE = CodedConcept("appearance", SCHEME, "COVID-19 appearance on chest radiograph")
CLASSES = {name: CodedConcept(name, SCHEME, column) for name, column in zip(STUDY.names, STUDY_COLUMNS, strict=True)}
"""The study level's classes, as the competition words them."""
PROBABILITIES = {
    name: CodedConcept(f"p-{name}", SCHEME, f"Probability of {column}")
    for name, column in zip(STUDY.names, STUDY_COLUMNS, strict=True)
}
_PROCEDURE = CodedConcept("399208008", "SCT", "Plain chest X-ray")
_ABSENT = CodedConcept("272519000", "SCT", "Absent")  # of CID 240

_Group = PlanarROIMeasurementsAndQualitativeEvaluations | MeasurementsAndQualitativeEvaluations


def corners(box: FoundBox) -> NDArray[np.float64]:
    """f64[5, 2]: a box as a closed polyline of (column, row), clockwise from the upper left corner.

    Viewers draw a region of five points as a rectangle; of four alone some draw three sides.
    """
    x = [box.x1, box.x2, box.x2, box.x1, box.x1]
    y = [box.y1, box.y1, box.y2, box.y2, box.y1]
    return np.column_stack([x, y]).astype(np.float64)


def structured_report(
    sources: Sequence[Source],
    boxes: Sequence[Sequence[FoundBox]],
    study: Mapping[str, float] | None,
    origin: Origin,
) -> Comprehensive3DSR:
    """One report of a study's images and their boxes, and of the study's class if there is one.

    `boxes` are parallel to `sources`; an image without any is reported as without opacity at this threshold.
    The report is complete, preliminary and not verified: nobody has read it.
    """
    groups: list[_Group] = [] if study is None else [_study_group(sources, study, origin)]
    for number, (source, found) in enumerate(zip(sources, boxes, strict=True), start=1):
        groups += [_box_group(source, f"{number}.{place}", box, origin) for place, box in enumerate(found, start=1)]
        if not found:
            groups.append(_empty_group(source, number, origin))
    content = MeasurementReport(
        observation_context=_observer(origin),
        procedure_reported=_PROCEDURE,
        imaging_measurements=groups,
        title=codes.DCM.ImagingMeasurementReport,
    )
    # TID 1500 may be extended; the comment is what a reader of the bare content sees of our disclaimer.
    content[0].ContentSequence.append(
        TextContentItem(codes.DCM.Comment, f"{DISCLAIMER}. {_setting(origin)}.", RelationshipTypeValues.CONTAINS)
    )
    report = Comprehensive3DSR(
        evidence=[nameless(source) for source in sources],
        content=content,
        sop_instance_uid=origin.uid("report", *(source.header.SOPInstanceUID for source in sources)),
        instance_number=1,
        is_complete=True,
        coding_schemes=[CodingSchemeIdentificationItem(SCHEME, name=MAKER, responsible_organization=MAKER)],
        **origin.series("report", sources[0]),
    )
    finish(report, sources[0], origin)
    return report


def _observer(origin: Origin) -> ObservationContext:
    model = origin.model
    device = DeviceObserverIdentifyingAttributes(
        uid=origin.uid("device"),
        name=model.name,
        manufacturer_name=MAKER,
        model_name=f"{model.name} {model.version}",
        serial_number=model.digest or None,
    )
    return ObservationContext(observer_device_context=ObserverContext(codes.DCM.Device, device))


def _algorithm(name: str, origin: Origin) -> AlgorithmIdentification:
    return AlgorithmIdentification(name, origin.model.version, parameters=[_setting(origin)])


def _setting(origin: Origin) -> str:
    return f"Boxes with a score from {origin.threshold:g}"


def _percent(name: CodedConcept, share: float) -> Measurement:
    # Six digits: a decimal string has room for 16 characters.
    return Measurement(name, round(100 * share, 6), codes.UCUM.Percent)


def _box_group(source: Source, number: str, box: FoundBox, origin: Origin) -> _Group:
    header = source.header
    region = ImageRegion(
        GraphicTypeValues.POLYLINE, corners(box), SourceImageForRegion(header.SOPClassUID, header.SOPInstanceUID)
    )
    return PlanarROIMeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(origin.uid("box", header.SOPInstanceUID, number), f"opacity {number}"),
        referenced_region=region,
        finding_type=OPACITY,
        finding_sites=[FindingSite(codes.SCT.Lung)],
        algorithm_id=_algorithm(box.detector, origin),
        measurements=[_percent(CERTAINTY, box.score)],
    )


def _empty_group(source: Source, number: int, origin: Origin) -> _Group:
    header = source.header
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(origin.uid("image", header.SOPInstanceUID), f"image {number}"),
        algorithm_id=_algorithm(origin.model.name, origin),
        qualitative_evaluations=[QualitativeEvaluation(OPACITY, _ABSENT)],
        source_images=[SourceImageForMeasurementGroup(header.SOPClassUID, header.SOPInstanceUID)],
    )


def _study_group(sources: Sequence[Source], study: Mapping[str, float], origin: Origin) -> _Group:
    top = max(study, key=study.__getitem__)
    images = [(source.header.SOPClassUID, source.header.SOPInstanceUID) for source in sources]
    return MeasurementsAndQualitativeEvaluations(
        TrackingIdentifier(origin.uid("study", sources[0].header.StudyInstanceUID), "study"),
        algorithm_id=AlgorithmIdentification(origin.model.name, origin.model.version),
        measurements=[_percent(PROBABILITIES[name], study[name]) for name in STUDY.names],
        qualitative_evaluations=[QualitativeEvaluation(APPEARANCE, CLASSES[top])],
        source_images=[SourceImageForMeasurementGroup(*image) for image in images],
    )
