"""Files that are made to hurt: each gets a reason while others are served, and the log keeps quiet."""

import io
import socket
import struct
import zlib
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pydicom
import pytest
from PIL import Image

pytestmark = pytest.mark.timeout(180)

UNREADABLE, OTHER = 422, 415


def edited(path, **values) -> bytes:
    dataset = pydicom.dcmread(path)
    with pydicom.config.disable_value_validation():
        for keyword, value in values.items():
            if value is None:
                del dataset[keyword]
            else:
                setattr(dataset, keyword, value)
        stream = io.BytesIO()
        dataset.save_as(stream)
    return stream.getvalue()


def with_syntax(data: bytes, syntax: bytes) -> bytes:
    """Another transfer syntax UID, of even length, in explicit little endian."""
    old = b"1.2.840.10008.1.2.1\0"
    at = data.index(old)
    data = data[: at - 2] + struct.pack("<H", len(syntax)) + syntax + data[at + len(old) :]
    length = struct.unpack_from("<I", data, 140)[0] + len(syntax) - len(old)
    return data[:140] + struct.pack("<I", length) + data[144:]


def deflated_bomb(data: bytes) -> bytes:
    deflater = zlib.compressobj(9, wbits=-15)
    bomb = b"".join(deflater.compress(bytes(1 << 20)) for _ in range(300)) + deflater.flush()
    marked = with_syntax(data, b"1.2.840.10008.1.2.1.99")
    return marked[: 144 + struct.unpack_from("<I", marked, 140)[0]] + bomb


def nested(data: bytes) -> bytes:
    sequence = struct.pack("<HH2sHI", 0x0008, 0x1140, b"SQ", 0, 0xFFFFFFFF)
    at = data.index(struct.pack("<HH2s", 0x0010, 0x0010, b"PN"))
    return data[:at] + (sequence + struct.pack("<HHI", 0xFFFE, 0xE000, 0xFFFFFFFF)) * 5000 + data[at:]


def picture(kind: str, pixels) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, kind)
    return stream.getvalue()


def huge_png() -> bytes:
    """A header of 65,535 x 65,535 pixels, with its checksum."""
    header = b"IHDR" + struct.pack(">II5B", 65535, 65535, 8, 0, 0, 0, 0)
    end = b"IEND"
    chunks = b"".join(
        struct.pack(">I", len(chunk) - 4) + chunk + struct.pack(">I", zlib.crc32(chunk)) for chunk in (header, end)
    )
    return b"\x89PNG\r\n\x1a\n" + chunks


@pytest.fixture(scope="module")
def hostile(radiograph, png) -> dict[str, tuple[bytes, int, str]]:
    """By name: a file, the status that it gets, and words of its reason."""
    data = radiograph.read_bytes()
    return {
        "empty": (b"", OTHER, "neither DICOM nor PNG nor JPEG"),
        "text": (b"Doe^Jane", OTHER, "neither DICOM nor PNG nor JPEG"),
        "pickle": (b"\x80\x04\x95" + bytes(200), OTHER, "neither DICOM nor PNG nor JPEG"),
        "zip": (b"PK\x03\x04" + bytes(200), OTHER, "neither DICOM nor PNG nor JPEG"),
        "mark alone": (data[:132], UNREADABLE, "TransferSyntaxUID"),
        "cut off": (data[: len(data) // 2], UNREADABLE, "47657 bytes, expected 96000 bytes"),
        "no pixels": (edited(radiograph, PixelData=None), UNREADABLE, "PixelData (7FE0,0010): found nothing"),
        "frames": (edited(radiograph, NumberOfFrames=2), UNREADABLE, "NumberOfFrames"),
        "colour": (edited(radiograph, PhotometricInterpretation="RGB"), UNREADABLE, "found RGB, expected MONO"),
        "large": (edited(radiograph, Rows=65535, Columns=65535), UNREADABLE, "65535 rows of 65535 pixels"),
        "window of 0": (edited(radiograph, WindowCenter=1, WindowWidth=0), UNREADABLE, "WindowWidth"),
        "constant": (edited(radiograph, PixelData=bytes(240 * 200 * 2)), UNREADABLE, "found one grey level"),
        "syntax": (with_syntax(data, b"1.2.840.10008.1.2.4.100\0"), UNREADABLE, "TransferSyntaxUID"),
        "deflated bomb": (deflated_bomb(data), UNREADABLE, "found more when inflated"),
        "nested": (nested(data), UNREADABLE, "RecursionError"),
        "PNG cut off": (png()[:60], UNREADABLE, "a PNG that is cut off"),
        "PNG of one grey": (picture("png", np.full((32, 32), 7, np.uint8)), UNREADABLE, "found one grey level"),
        "PNG bomb": (huge_png(), UNREADABLE, "65535 rows of 65535 pixels"),
        "JPEG cut off": (picture("jpeg", np.eye(64, dtype=np.uint8) * 255)[:300], UNREADABLE, "file: found"),
    }


def test_each_gets_a_reason_while_others_are_served(running, hostile, png):
    with ThreadPoolExecutor(4) as pool:
        good = [pool.submit(running.post, png(100 + number)) for number in range(4)]
        answers = {name: pool.submit(running.post, data) for name, (data, _, _) in hostile.items()}
    found = {name: (answer.result().status_code, answer.result().json()) for name, answer in answers.items()}
    for name, (_, status, words) in hostile.items():
        assert found[name][0] == status, (name, found[name])
        assert words in found[name][1]["detail"], (name, found[name])
    assert [answer.result().status_code for answer in good] == [200] * 4
    log = running.log.read_text()
    assert "Traceback" not in log
    assert "Jane" not in log


def test_a_bad_file_takes_its_study_with_it_and_is_numbered(running, hostile, png):
    answer = running.post(png(), hostile["constant"][0])
    assert answer.status_code == UNREADABLE
    assert answer.json()["detail"].startswith("file 2: pixels: found one grey level")


def test_names_in_headers_become_no_paths_and_no_answer(running, radiograph):
    data = edited(radiograph, SOPInstanceUID="../../evil", StudyInstanceUID="..", PatientID="Doe^Jane/../x")
    answer = running.post(data)
    assert answer.status_code == 200
    assert not {"evil", "Jane", ".."} & set(answer.text.split('"'))
    assert "Jane" not in answer.text


def test_a_client_that_goes_while_it_sends_leaves_no_trace(running, png):
    address = running.address.removeprefix("http://").split(":")
    with socket.create_connection((address[0], int(address[1]))) as client:
        head = "POST /api/predict HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 100000\r\n"
        client.sendall(head.encode() + b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x\r\n")
    assert running.post(png()).status_code == 200
    assert "Traceback" not in running.log.read_text()
