"""Many uploads at once: none fails, and memory stays."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

RESIDENT = "process_resident_memory_bytes"


def test_uploads_of_several_clients_are_all_answered(running, png):
    with ThreadPoolExecutor(4) as pool:
        answers = list(pool.map(lambda seed: running.post(png(1000 + seed, 256)), range(24)))
    assert [answer.status_code for answer in answers] == [200] * 24
    ids = [answer.json()["images"][0]["id"] for answer in answers]
    assert len(set(ids)) == 24
    assert running.figures()["siimdet_waiting"] == 0


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_two_hundred_uploads_by_eight_clients(start, png):
    server = start("--keep-for", "5")
    seconds, resident = [], []
    with ThreadPoolExecutor(8) as pool:
        for number, answer in enumerate(pool.map(lambda seed: server.post(png(seed, 512)), range(200)), start=1):
            assert answer.status_code == 200
            seconds.append(answer.elapsed.total_seconds())
            if number in (50, 200):
                resident.append(server.figures()[RESIDENT])
    p95, growth = np.quantile(seconds, 0.95), resident[1] / resident[0] - 1
    print(f"p95 {p95:.2f} s, resident {resident[0] / 2**20:.0f} MiB after 50 uploads, {growth:+.1%} after 200")
    assert growth <= 0.05
