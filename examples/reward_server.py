"""A server that ``reward=http`` asks: put your own judge in the place of ``score``.

python examples/reward_server.py 8000
python -m soc_ft experiment=quickstart method=ddpo reward=http reward.url=http://127.0.0.1:8000
"""

import base64
import io
import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from PIL import Image, ImageStat


def score(picture: Image.Image, prompt: str, metadata: dict[str, object]) -> float:
    """How much redder than green and blue a picture is, in [-1, 1].

    Here the prompt does not matter, nor what else its file says of it, as {"tag": "counting"}.
    """
    red, green, blue = ImageStat.Stat(picture.convert("RGB")).mean
    return (red - (green + blue) / 2) / 255


class Judge(BaseHTTPRequestHandler):
    """Answers POST {"prompts": [...], "images": [base64 of PNG, ...]} with {"scores": [...]}.

    The question has "metadata": [{...}, ...] as well if the files of the prompts hold further keys.
    """

    def do_POST(self) -> None:
        """Score the pictures of a request."""
        question = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        files = [io.BytesIO(base64.b64decode(image)) for image in question["images"]]
        metadata = question.get("metadata", [{}] * len(files))
        asked = zip(files, question["prompts"], metadata, strict=True)
        scores = [score(Image.open(file), prompt, said) for file, prompt, said in asked]
        answer = json.dumps({"scores": scores}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *arguments: object) -> None:
        """Say nothing of every request."""


if __name__ == "__main__":
    port = int(sys.argv[1]) if len(sys.argv) > 1 else 8000
    ThreadingHTTPServer(("127.0.0.1", port), Judge).serve_forever()
