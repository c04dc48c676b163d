"""The reward that asks a server, with a real one."""

from __future__ import annotations

import importlib.util
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from soc_ft.errors import ConfigError, RunError
from soc_ft.rewards.http import HTTPReward

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "reward_server.py"


class Server:
    """A server on a free port, and what it was asked."""

    def __init__(self, handler: type[BaseHTTPRequestHandler]) -> None:
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


class Scripted(BaseHTTPRequestHandler):
    """Gives the answers of ``script`` one after the other, the last one for ever."""

    script: ClassVar[list[tuple[int, str]]] = []
    asked: ClassVar[list[dict]] = []

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self.asked.append(json.loads(self.rfile.read(length)))
        status, text = self.script.pop(0) if len(self.script) > 1 else self.script[0]
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *arguments: object) -> None:
        pass


@pytest.fixture
def scripted() -> Iterator[Server]:
    Scripted.asked = []
    server = Server(Scripted)
    yield server
    server.close()


@pytest.fixture
def example() -> Iterator[Server]:
    spec = importlib.util.spec_from_file_location("reward_server", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    server = Server(module.Judge)
    yield server
    server.close()


def test_scores_are_those_of_the_server_in_order(example: Server) -> None:
    """Breaks if batches come back in another order, or pictures are not what was drawn."""
    images = torch.zeros(7, 3, 8, 8)
    images[:, 0] = torch.arange(7).view(-1, 1, 1) / 10
    reward = HTTPReward(example.url, batch_size=2, parallel=3)
    scores = reward(images, [f"picture {i}" for i in range(7)])
    torch.testing.assert_close(scores, (torch.arange(7) * 25.5).round() / 255, atol=1e-6, rtol=0)
    reward.use_metadata({"picture 0": {"tag": "counting"}})
    assert torch.equal(reward(images, [f"picture {i}" for i in range(7)]), scores)


def test_a_busy_server_is_asked_again(scripted: Server) -> None:
    """Breaks if one refusal ends a run of days."""
    Scripted.script = [(503, "starting"), (200, '{"scores": [0.5]}')]
    assert HTTPReward(scripted.url)(torch.zeros(1, 3, 4, 4), ["a"]).tolist() == [0.5]
    assert [each["prompts"] for each in Scripted.asked] == [["a"], ["a"]]


def test_what_is_known_of_prompts_is_sent_with_their_pictures(scripted: Server) -> None:
    """Breaks if it goes to another picture's place, or a server that knows none of it gets it."""
    Scripted.script = [(200, '{"scores": [0.5, 1]}')]
    reward = HTTPReward(scripted.url, batch_size=2, parallel=1)
    reward(torch.zeros(2, 3, 4, 4), ["a", "b"])
    reward.use_metadata({"a": {"tag": "x", "when": object()}, "b": {}, "c": {"tag": "z"}})
    reward(torch.zeros(4, 3, 4, 4), ["c", "b", "b", "a"])
    reward.use_metadata({"a": {"when": object()}, "b": {}})
    reward(torch.zeros(2, 3, 4, 4), ["a", "b"])
    asked = [each.get("metadata", "nothing") for each in Scripted.asked]
    assert asked == ["nothing", [{"tag": "z"}, {}], [{}, {"tag": "x"}], "nothing"]


@pytest.mark.parametrize(
    ("status", "answer", "said"),
    [
        (200, '{"scores": [1, 2]}', "1 pictures need as many scores"),
        (200, '{"scores": ["high"]}', "a score is no finite number"),
        (200, '{"scores": [NaN]}', "a score is no finite number"),
        (200, '{"score": [1]}', r'its answer is not \{"scores": \[...\]\}'),
        (200, "<html>", r'its answer is not \{"scores": \[...\]\}'),
        (404, "", "answers 404"),
        (500, "", "answers 500"),
    ],
)
def test_what_is_no_answer_is_said(scripted: Server, status: int, answer: str, said: str) -> None:
    """Breaks if wrong scores are trained on, or a traceback is all that is left."""
    Scripted.script = [(status, answer)]
    with pytest.raises(RunError, match=rf"^reward server {scripted.url}: {said}$"):
        HTTPReward(scripted.url, retries=0)(torch.zeros(1, 3, 4, 4), ["a"])


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    """Breaks if a secret of an address reaches the log."""
    reward = HTTPReward("http://me:secret@127.0.0.1:9/score?token=x", retries=0, timeout=2.0)
    with pytest.raises(RunError, match=r"^reward server http://127\.0\.0\.1:9/score: gives no ans"):
        reward(torch.zeros(1, 3, 4, 4), ["a"])


@pytest.mark.parametrize("url", ["http://me:secret@host/score", "https://host/score?token=secret"])
def test_a_secret_in_an_address_is_refused_without_showing_it(url: str) -> None:
    """Breaks if a password is written to config.yaml and MLflow, or to the terminal."""
    with pytest.raises(ConfigError, match=r"^reward\.url=https?://host/score: .*netrc") as error:
        HTTPReward.check_arguments({"url": url}, "reward")
    assert "secret" not in str(error.value)


@pytest.mark.parametrize("url", ["", "127.0.0.1:8000", "ftp://host", "http://", None, 8000])
def test_an_address_is_checked(url: object) -> None:
    """Breaks if a typing mistake is found out after the model has loaded."""
    with pytest.raises(ConfigError, match=r"^reward\.url="):
        HTTPReward.check_arguments({"url": url}, "reward")
