"""Report and presentation state of a study: what goes in comes back, under the same UIDs whenever it is made."""

import io
import logging
from datetime import datetime

import highdicom as hd
import numpy as np
import pydicom
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from siimdet.core.types import ImageSize
from siimdet.errors import ImageError, UserError
from siimdet.imaging.dicom_write import write_radiograph
from siimdet.serve.dicom_identity import ModelIdentity, Origin
from siimdet.serve.dicom_results import shown_boxes, study_objects
from siimdet.serve.dicom_source import Source, read_source
from siimdet.serve.results import FoundBox, ImageResult

MODEL = ModelIdentity("s1 ensemble", "0.1.0", "ab" * 32)
ORIGIN = Origin(MODEL, 0.5, datetime(2026, 1, 2, 3, 4, 5))
STUDY = {"negative": 0.125, "typical": 0.5, "indeterminate": 0.25, "atypical": 0.125}
SIZE = ImageSize(300, 200)
BOXES = (
    FoundBox(10.25, 20, 110.5, 140, 0.875, "faster_rcnn"),
    FoundBox(0, 0, 300, 200, 0.5, "yolo"),
    FoundBox(1, 1, 5, 5, 0.499, "yolo"),
)


def write_source(path, *, number=1, study="1.2.3", edit=None, **how):
    pixels = np.random.default_rng(0).integers(0, 4096, (SIZE.height, SIZE.width)).astype(np.uint16)
    ids = {"patient_id": "P7", "study_uid": study, "series_uid": "1.2.3.4", "sop_uid": f"1.2.3.4.{number}"}
    write_radiograph(path, how.pop("pixels", pixels), bits_stored=how.pop("bits_stored", 12), **ids, **how)
    if edit is not None:
        with pydicom.config.disable_value_validation():
            header = pydicom.dcmread(path)
            edit(header)
            header.save_as(path)
    return path


def image(*boxes):
    return ImageResult("image", SIZE, boxes)


@pytest.fixture
def source(tmp_path) -> Source:
    return read_source(write_source(tmp_path / "image.dcm", window=(2048, 4000)))


def stored(made: pydicom.Dataset) -> pydicom.Dataset:
    """An object as it comes back from its bytes."""
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    stream.seek(0)
    return pydicom.dcmread(stream)


def report_groups(made):
    content = hd.sr.Comprehensive3DSR.from_dataset(stored(made.report)).content
    return content.get_planar_roi_measurement_groups(), content.get_image_measurement_groups()


def corners(points):
    return [*points.min(0), *points.max(0)]


def test_report_gives_the_boxes_back(source):
    made = study_objects([source], [image(*BOXES)], STUDY, ORIGIN)
    groups, _ = report_groups(made)
    assert [corners(group.roi.value) for group in groups] == [[10.25, 20, 110.5, 140], [0, 0, 300, 200]]
    assert all(len(group.roi.value) == 5 and (group.roi.value[0] == group.roi.value[-1]).all() for group in groups)
    certainties = [
        group.get_measurements(hd.sr.CodedConcept("111012", "DCM", "Certainty of Finding")) for group in groups
    ]
    assert [(found[0].value, found[0].unit.value) for found in certainties] == [(87.5, "%"), (50.0, "%")]
    assert {group.finding_type.value for group in groups} == {"112001"}
    assert [group.tracking_identifier for group in groups] == ["opacity 1.1", "opacity 1.2"]
    texts = {element.value for element in made.report.iterall() if element.keyword == "TextValue"}
    assert {"faster_rcnn", "yolo", "s1 ensemble", "0.1.0", "Boxes with a score from 0.5"} <= texts


def test_report_gives_the_study_class_and_its_probabilities(source):
    _, (group,) = report_groups(study_objects([source], [image(*BOXES)], STUDY, ORIGIN))
    (evaluation,) = group.get_qualitative_evaluations()
    assert (evaluation.value.value, evaluation.value.scheme_designator) == ("typical", "99SIIMDET")
    probabilities = {one.name.value: one.value for one in group.get_measurements()}
    assert probabilities == {"p-negative": 12.5, "p-typical": 50, "p-indeterminate": 25, "p-atypical": 12.5}


def test_an_image_without_boxes_and_class_is_reported_absent(source):
    made = study_objects([source], [image(BOXES[2])], None, ORIGIN)
    groups, (group,) = report_groups(made)
    assert groups == []
    (evaluation,) = group.get_qualitative_evaluations()
    assert (evaluation.name.meaning, evaluation.value.meaning) == ("Opacity", "Absent")
    assert group.get_measurements() == []
    assert [
        text.UnformattedTextValue for text in made.presentations[0].GraphicAnnotationSequence[0].TextObjectSequence
    ] == ["s1 ensemble: not for diagnosis"]


def test_nobody_verified_it_and_it_says_so(source):
    made = study_objects([source], [image(*BOXES)], STUDY, ORIGIN)
    assert made.report.VerificationFlag == "UNVERIFIED"
    assert made.report.PreliminaryFlag == "PRELIMINARY"
    assert all(one.ContentQualification == "RESEARCH" for one in made)
    assert all(one.SeriesDescription.endswith("not for diagnosis") for one in made)
    assert made.report.ContentSequence[-1].TextValue == "Not for diagnosis. Boxes with a score from 0.5."


def test_presentation_state_has_boxes_scores_and_the_window(source):
    (state,) = study_objects([source], [image(*BOXES)], STUDY, ORIGIN).presentations
    (annotation,) = stored(state).GraphicAnnotationSequence
    drawn = [np.reshape(one.GraphicData, (-1, 2)) for one in annotation.GraphicObjectSequence]
    assert [corners(points) for points in drawn] == [[10.25, 20, 110.5, 140], [0, 0, 300, 200]]
    assert [one.UnformattedTextValue for one in annotation.TextObjectSequence[1:]] == ["opacity 0.88", "opacity 0.50"]
    assert (state.SoftcopyVOILUTSequence[0].WindowCenter, state.SoftcopyVOILUTSequence[0].WindowWidth) == (2048, 4000)
    assert state.PresentationLUTShape == "IDENTITY"
    assert state.ReferencedSeriesSequence[0].ReferencedImageSequence[0].ReferencedSOPInstanceUID == "1.2.3.4.1"


def test_monochrome1_is_inverted(tmp_path):
    source = read_source(write_source(tmp_path / "image.dcm", photometric="MONOCHROME1"))
    (state,) = study_objects([source], [image()], None, ORIGIN).presentations
    assert state.PresentationLUTShape == "INVERSE"


def test_voi_table_of_10_bits_becomes_one_of_16(tmp_path):
    table = np.arange(4096, dtype=np.uint16) // 4
    source = read_source(write_source(tmp_path / "image.dcm", voi_lut=table))
    (state,) = study_objects([source], [image()], None, ORIGIN).presentations
    (item,) = stored(state).SoftcopyVOILUTSequence[0].VOILUTSequence
    entries = np.frombuffer(item.LUTData, "<u2")
    assert list(item.LUTDescriptor) == [4096, 0, 16]
    assert (entries[0], entries[2048], entries[-1]) == (0, round(512 * 65535 / 1023), 65535)


def test_same_making_same_uids_and_other_making_other_uids(source):
    def uids(origin, *boxes):
        return [one.SOPInstanceUID for one in study_objects([source], [image(*boxes)], STUDY, origin)]

    later = Origin(MODEL, 0.5, datetime(2027, 1, 1))
    others = [
        Origin(ModelIdentity("s1 ensemble", "0.1.0", "cd" * 32), 0.5, ORIGIN.made),
        Origin(ModelIdentity("s2", "0.1.0", "ab" * 32), 0.5, ORIGIN.made),
        Origin(MODEL, 0.25, ORIGIN.made),
    ]
    first = uids(ORIGIN, *BOXES)
    assert uids(later, *BOXES) == first
    assert len({*first, *(uid for other in others for uid in uids(other, *BOXES))}) == 4 * 3
    assert all(pydicom.uid.UID(uid).is_valid for uid in first)


def test_kinds_have_series_of_their_own_within_the_study(tmp_path):
    sources = [read_source(write_source(tmp_path / f"{n}.dcm", number=n)) for n in (1, 2)]
    made = study_objects(sources, [image(*BOXES), image()], STUDY, ORIGIN)
    assert [one.SeriesNumber for one in made] == [9701, 9702, 9702, 9703, 9703]
    assert [one.InstanceNumber for one in made] == [1, 1, 2, 1, 2]
    assert [one.Modality for one in made] == ["SR", "PR", "PR", "OT", "OT"]
    assert len({one.SeriesInstanceUID for one in made}) == 3
    assert len({one.SOPInstanceUID for one in made}) == 5
    assert {one.StudyInstanceUID for one in made} == {"1.2.3"}


@pytest.mark.parametrize(
    ("characters", "name"),
    [
        pytest.param("ISO_IR 100", "Müller^Jörg", id="latin"),
        pytest.param("ISO_IR 192", "Größe^Ægir", id="utf-8"),
        pytest.param(["", "ISO 2022 IR 87"], "Yamada^Tarou=山田^太郎=やまだ^たろう", id="kanji"),
    ],
)
def test_names_keep_their_bytes(tmp_path, characters, name):
    def edit(header):
        header.SpecificCharacterSet, header.PatientName, header.PatientSex = characters, name, "F"

    path = write_source(tmp_path / "image.dcm", edit=edit)
    before = pydicom.dcmread(path)
    raw = before.get_item("PatientName").value
    assert isinstance(raw, bytes)
    for made in study_objects([read_source(path)], [image(*BOXES)], STUDY, ORIGIN):
        after = stored(made)
        assert after.get_item("PatientName").value == raw
        assert after.SpecificCharacterSet == before.SpecificCharacterSet
        assert str(after.PatientName) == name
        assert (after.PatientID, after.PatientSex) == ("P7", "F")


def test_a_bare_header_is_enough_and_unsound_values_are_left_out(tmp_path):
    def edit(header):
        for keyword in ("PatientName", "StudyDate", "StudyTime", "AccessionNumber", "StudyID", "SpecificCharacterSet"):
            delattr(header, keyword)
        header.SOPClassUID = header.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
        header.PatientAge, header.PatientSex, header.PatientBirthDate = "81", "X", "1999"

    path = write_source(tmp_path / "image.dcm", edit=edit)
    for made in study_objects([read_source(path)], [image(*BOXES)], STUDY, ORIGIN):
        after = stored(made)
        assert (after.PatientName, after.StudyDate, after.PatientBirthDate) == ("", "", "")
        assert after.PatientSex == "X"
        assert "PatientAge" not in after


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (lambda header: header.pop("StudyInstanceUID"), ("StudyInstanceUID", "nothing", "a UID")),
        (lambda header: header.pop("SeriesInstanceUID"), ("SeriesInstanceUID", "nothing", "a UID")),
        (lambda header: setattr(header, "SOPClassUID", "1.2.840.10008.5.1.4.1.1.128"), ("SOPClassUID", "Positron")),
        (lambda header: setattr(header, "SpecificCharacterSet", "latin_1"), ("SpecificCharacterSet", "latin_1")),
        (lambda header: setattr(header, "PatientID", "x" * 65), ("PatientID", "65", "a valid value")),
        (
            lambda header: header.add_new("PatientName", "PN", b"M\xfcller"),
            ("PatientName", "outside its character set"),
        ),
    ],
)
def test_a_header_that_cannot_be_referred_to_is_one_line(tmp_path, edit, words):
    path = write_source(tmp_path / "image.dcm", edit=edit)
    with pytest.raises(ImageError) as refused:
        read_source(path)
    assert all(word in str(refused.value) for word in (str(path), *words)), refused.value


def test_no_name_reaches_the_log(tmp_path, caplog):
    def edit(header):
        header.PatientName = "Secretperson"

    path = write_source(tmp_path / "image.dcm", edit=edit)
    with caplog.at_level(logging.DEBUG):
        study_objects([read_source(path)], [image(*BOXES)], STUDY, ORIGIN)
    assert "Secretperson" not in caplog.text


@pytest.mark.parametrize(
    ("box", "word"),
    [
        (FoundBox(0, 0, 302, 10, 0.9, "a"), "0 0 302 10"),
        (FoundBox(5, 5, 5, 10, 0.9, "a"), "5 5 5 10"),
        (FoundBox(float("nan"), 5, 9, 10, 0.9, "a"), "nan"),
        (FoundBox(400, 5, 500, 10, 0.9, "a"), "400"),
    ],
)
def test_a_box_outside_is_refused_from_the_threshold_on(source, box, word):
    with pytest.raises(ImageError, match=word):
        shown_boxes(source, image(box), 0.9)
    assert shown_boxes(source, image(box), 0.91) == ()


def test_another_size_is_refused(source):
    with pytest.raises(ImageError, match="found 300x200, expected 1024x1024"):
        shown_boxes(source, ImageResult("image", ImageSize(1024, 1024), ()), 0.5)


def test_studies_do_not_mix_and_no_image_comes_twice(tmp_path, source):
    other = read_source(write_source(tmp_path / "other.dcm", number=2, study="1.2.9"))
    with pytest.raises(ImageError, match=r"StudyInstanceUID: found 1.2.9, expected 1.2.3"):
        study_objects([source, other], [image(), image()], None, ORIGIN)
    path = write_source(tmp_path / "patient.dcm", number=3, edit=lambda header: setattr(header, "PatientID", "P8"))
    with pytest.raises(ImageError, match="PatientID: found another patient"):
        study_objects([source, read_source(path)], [image(), image()], None, ORIGIN)
    with pytest.raises(ImageError, match=r"SOPInstanceUID: found 1.2.3.4.1 again"):
        study_objects([source, source], [image(), image()], None, ORIGIN)


@pytest.mark.parametrize("name", ["", " a", "a\\b", "Größe", "a\nb", "x" * 49])
def test_a_name_that_dicom_cannot_hold_is_refused(name):
    with pytest.raises(UserError, match="printable ASCII"):
        ModelIdentity(name, "1", "")


def test_a_threshold_is_a_score():
    with pytest.raises(UserError, match="from 0 to 1"):
        Origin(MODEL, float("nan"), ORIGIN.made)


sides = st.integers(0, 3).flatmap(
    lambda decimals: st.floats(0, 1, width=32).map(lambda share: round(float(share), decimals + 1))
)


@settings(max_examples=40)
@given(xs=st.tuples(sides, sides), ys=st.tuples(sides, sides), score=st.floats(0.5, 1))
def test_any_box_inside_survives(tmp_path_factory, xs, ys, score):
    folder = tmp_path_factory.getbasetemp() / "geometry"
    folder.mkdir(exist_ok=True)
    path = folder / "image.dcm"
    source = read_source(path if path.exists() else write_source(path))
    x1, x2 = (SIZE.width * x for x in sorted(xs))
    y1, y2 = (SIZE.height * y for y in sorted(ys))
    if not (x1 < x2 and y1 < y2):
        return
    made = study_objects([source], [image(FoundBox(x1, y1, x2, y2, score, "a"))], None, ORIGIN)
    (group,), _ = report_groups(made)
    assert corners(group.roi.value) == pytest.approx([x1, y1, x2, y2], abs=1e-3)
    assert group.get_measurements()[0].value == pytest.approx(100 * score, abs=1e-6)
    (drawn,) = made.presentations[0].GraphicAnnotationSequence[0].GraphicObjectSequence
    assert corners(np.reshape(drawn.GraphicData, (-1, 2))) == pytest.approx([x1, y1, x2, y2], abs=1e-3)
    label = made.presentations[0].GraphicAnnotationSequence[0].TextObjectSequence[1]
    assert 0 <= label.BoundingBoxTopLeftHandCorner[0] < label.BoundingBoxBottomRightHandCorner[0] <= SIZE.width
    assert 0 <= label.BoundingBoxTopLeftHandCorner[1] < label.BoundingBoxBottomRightHandCorner[1] <= SIZE.height
