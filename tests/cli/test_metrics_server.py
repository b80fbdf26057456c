"""What a scraper gets where there are no numbers."""

from __future__ import annotations

import http.client
import threading

import pytest

from kourou.cli.status.prometheus import MetricsServer


def test_numbers_that_cannot_be_read_are_told_to_the_scraper(capfd: pytest.CaptureFixture[str]) -> None:
    def scrape() -> str:
        raise FileNotFoundError("there is no run.json")

    with MetricsServer(0, "secret", scrape) as server:
        serving = threading.Thread(target=server.handle_request)
        serving.start()
        connection = http.client.HTTPConnection("127.0.0.1", server.server_port, timeout=20.0)
        connection.request("GET", "/metrics", headers={"Authorization": "Bearer secret"})
        answer = connection.getresponse()
        assert (answer.status, answer.read()) == (503, b"there is no run.json\n")
        connection.close()
        serving.join()
    assert capfd.readouterr().err == ""
