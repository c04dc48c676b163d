"""Scores from a server: vision-language judges, other environments, other machines."""

from __future__ import annotations

import base64
import io
import json
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self
from urllib.parse import urlsplit

from soc_ft.data.metadata import Metadata, json_values
from soc_ft.errors import ConfigError, RunError
from soc_ft.options import BatchSize, Count, CountOrZero, Positive, WithoutEffect

if TYPE_CHECKING:
    import requests
    import torch

_RETRIED = (429, 500, 502, 503, 504)
"""Answers of a server that is busy or starting; after any other it is not asked again."""


class HTTPReward:
    """Asks a server for the scores of pictures. No gradient.

    A request is ``POST <url>`` with the JSON ``{"prompts": [str, ...], "images": [str, ...]}``,
    pictures as base64 of PNG files; the answer is the JSON ``{"scores": [number, ...]}``, as many
    in the same order. If the files of the prompts hold further keys, each request has
    ``"metadata": [{...}, ...]`` as well, an object for each picture, empty for a prompt without
    any; values that JSON cannot hold are left out. ``examples/reward_server.py`` is such a server.
    """

    name: ClassVar[str] = "http"
    differentiable: ClassVar[bool] = False

    def __init__(
        self,
        url: str,
        batch_size: BatchSize = 16,
        parallel: WithoutEffect[Count] = 4,
        timeout: WithoutEffect[Positive] = 60.0,
        retries: WithoutEffect[CountOrZero] = 5,
    ) -> None:
        """Say where the server is; it is asked when the first pictures come.

        Args:
            url: ``http://`` or ``https://``, with a path if the server has one.
            batch_size: pictures in a request.
            parallel: requests on their way at a time.
            timeout: seconds that an answer may take.
            retries: of a request that was not answered, or with 429 or 5xx; before the n-th it
                waits 2^(n - 1) seconds, or as long as the server says.
        """
        self.url = url
        self.batch_size = batch_size
        self.parallel = parallel
        self.timeout = timeout
        self.retries = retries
        self._metadata: dict[str, dict[str, Any]] = {}
        self._session: requests.Session | None = None

    @classmethod
    def check_arguments(cls, arguments: Mapping[str, Any], key: str) -> None:
        """Check the address.

        Raises:
            ConfigError: it is none.
        """
        url = arguments.get("url")
        text = url if isinstance(url, str) else ""
        parts = urlsplit(text)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ConfigError(
                f"{key}.url={url}: must be the http:// or https:// address of a server"
            )
        if parts.username or parts.password or parts.query:
            raise ConfigError(
                f"{key}.url={_shown(text)}: holds a password or a query, which would be recorded "
                "with the run; name and password belong into ~/.netrc, which is read"
            )

    def use_metadata(self, of_prompts: Metadata) -> None:
        """Send it with the pictures, if there is any."""
        sent = {prompt: json_values(said) for prompt, said in of_prompts.items()}
        self._metadata = sent if any(sent.values()) else {}

    def __call__(self, images: torch.Tensor, prompts: Sequence[str]) -> torch.Tensor:
        """(B, 3, H, W) in [0, 1] and B prompts -> (B,).

        Raises:
            RunError: the server does not answer, or with something else than B numbers.
        """
        from concurrent.futures import ThreadPoolExecutor

        import torch

        starts = range(0, len(images), self.batch_size)
        parts = [slice(start, start + self.batch_size) for start in starts]
        with ThreadPoolExecutor(self.parallel) as threads:
            scores = threads.map(lambda rows: self._ask(images[rows], prompts[rows]), parts)
            found = [score for part in scores for score in part]
        return torch.tensor(found, dtype=torch.float32, device=images.device)

    def to(self, device: torch.device) -> Self:
        """Nothing to move."""
        return self

    def _ask(self, images: torch.Tensor, prompts: Sequence[str]) -> list[float]:
        import requests

        pictures = [_encoded(image) for image in images]
        question: dict[str, Any] = {"prompts": list(prompts), "images": pictures}
        if self._metadata:
            question["metadata"] = [self._metadata.get(prompt, {}) for prompt in prompts]
        where = f"reward server {_shown(self.url)}"
        try:
            answer = self._opened().post(self.url, json=question, timeout=self.timeout)
            if not answer.ok:
                raise RunError(f"{where}: answers {answer.status_code}")
            scores = json.loads(answer.content)["scores"]
        except requests.RequestException as error:
            said = f"gives no answer ({type(error).__name__}) after {self.retries} retries"
            raise RunError(f"{where}: {said}") from None
        except (ValueError, KeyError, TypeError):
            raise RunError(f'{where}: its answer is not {{"scores": [...]}}') from None
        if not isinstance(scores, list) or len(scores) != len(prompts):
            raise RunError(f"{where}: {len(prompts)} pictures need as many scores")
        if not all(isinstance(each, int | float) and math.isfinite(each) for each in scores):
            raise RunError(f"{where}: a score is no finite number")
        return [float(each) for each in scores]

    def _opened(self) -> requests.Session:
        """Connections are kept, and requests that fail are sent again."""
        if self._session is None:
            import requests
            from requests.adapters import HTTPAdapter
            from urllib3.util import Retry

            again = Retry(
                total=self.retries,
                backoff_factor=1.0,
                status_forcelist=_RETRIED,
                allowed_methods=None,
                raise_on_status=False,
            )
            session = requests.Session()
            for scheme in ("http://", "https://"):
                session.mount(scheme, HTTPAdapter(max_retries=again, pool_maxsize=self.parallel))
            self._session = session
        return self._session


def _encoded(image: torch.Tensor) -> str:
    from torchvision.transforms.functional import to_pil_image

    file = io.BytesIO()
    to_pil_image((image.clamp(0, 1) * 255).round().byte().cpu()).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def _shown(url: str) -> str:
    """Without a password or a token that it may hold."""
    parts = urlsplit(url)
    port = f":{parts.port}" if parts.port else ""
    return f"{parts.scheme}://{parts.hostname}{port}{parts.path}"
