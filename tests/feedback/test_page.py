"""The page for people, opened from the file system in a real browser and used by its keys."""

from __future__ import annotations

import base64
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
import torch

from soc_ft.errors import AwaitingAnswers
from soc_ft.feedback.options import People
from soc_ft.feedback.people import answers_of_people, write_pictures

pytestmark = [
    pytest.mark.services,
    pytest.mark.skipif(
        shutil.which("chromedriver") is None, reason="chromium-driver is not installed"
    ),
]


class Browser:
    """A session of WebDriver, the protocol itself."""

    def __init__(self, address: str, downloads: Path) -> None:
        options = {
            "args": ["--headless=new", "--no-sandbox", "--disable-gpu", "--window-size=1000,800"],
            "prefs": {"download.default_directory": str(downloads)},
        }
        self._address = address
        given = {"capabilities": {"alwaysMatch": {"goog:chromeOptions": options}}}
        self._session = f"/session/{self._send('/session', given)['sessionId']}"

    def _send(self, path: str, content: Any) -> Any:
        answer = requests.post(f"{self._address}{path}", json=content, timeout=60)
        assert answer.ok, answer.text
        return answer.json()["value"]

    def open(self, page: Path) -> None:
        self._send(f"{self._session}/url", {"url": page.as_uri()})

    def script(self, text: str) -> Any:
        return self._send(f"{self._session}/execute/sync", {"script": text, "args": []})

    def press(self, keys: str) -> None:
        actions = [{"type": kind, "value": key} for key in keys for kind in ("keyDown", "keyUp")]
        self._send(
            f"{self._session}/actions",
            {"actions": [{"type": "key", "id": "k", "actions": actions}]},
        )

    def close(self) -> None:
        requests.delete(f"{self._address}{self._session}", timeout=60)

    def picture(self, path: Path) -> None:
        answer = requests.get(f"{self._address}{self._session}/screenshot", timeout=60)
        path.write_bytes(base64.b64decode(answer.json()["value"]))


@pytest.fixture
def browser(tmp_path: Path) -> Iterator[Browser]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    driver = subprocess.Popen(["chromedriver", f"--port={port}"], stdout=subprocess.DEVNULL)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(100):
            try:
                if requests.get(f"{address}/status", timeout=5).json()["value"]["ready"]:
                    break
            except requests.ConnectionError:
                time.sleep(0.2)
        session = Browser(address, tmp_path)
        yield session
        session.close()
    finally:
        driver.kill()
        driver.wait()


def save(browser: Browser, download: Path, stage: Path) -> None:
    """Press the button, and put the file where the page says."""
    browser.script("document.getElementById('save').click()")
    for _ in range(100):
        if download.is_file():
            break
        time.sleep(0.1)
    download.rename(stage / download.name)


def test_twenty_pictures_are_marked_and_saved(browser: Browser, tmp_path: Path) -> None:
    """Breaks if the page does not work without a server, loses a mark, or saves something else."""
    stage, people = tmp_path / "stage-1", People(kind="scores")
    prompts = [f"a picture of number {i}" for i in range(20)]
    write_pictures(stage, range(20), torch.rand(20, 3, 64, 64))
    with pytest.raises(AwaitingAnswers):
        answers_of_people(stage, prompts, 0, people)
    browser.open(stage / "index.html")
    assert browser.script("return document.images[0].naturalWidth") == 64
    marks = [1 + i % 5 for i in range(20)]
    browser.press("".join(map(str, marks[:7])))
    browser.open(stage / "index.html")  # somebody closed the page
    title = browser.script("return document.getElementById('title').textContent")
    assert "8 of 20" in title
    assert browser.script("return document.getElementById('save').disabled")
    browser.press("".join(map(str, marks[7:])))
    browser.picture(tmp_path / "page.png")
    save(browser, tmp_path / "labels.json", stage)
    assert answers_of_people(stage, prompts, 0, people).tolist() == marks


def test_of_two_pictures_the_better_one_is_chosen(browser: Browser, tmp_path: Path) -> None:
    """Breaks if a key stands for the wrong side, or the two pictures are of two prompts."""
    stage, people = tmp_path / "stage-1", People(kind="pairs")
    write_pictures(stage, range(6), torch.rand(6, 3, 64, 64))
    prompts = ["a", "a", "b", "b", "c", "c"]
    with pytest.raises(AwaitingAnswers):
        answers_of_people(stage, prompts, 0, people)
    browser.open(stage / "index.html")
    shown = browser.script("return [...document.images].map(each => each.alt)")
    assert shown == ["a", "a"]
    browser.press("\ue012\ue014\ue015")  # left, right, down
    save(browser, tmp_path / "labels.json", stage)
    assert answers_of_people(stage, prompts, 0, people).tolist() == [1, -1, -1, 1, 0, 0]
