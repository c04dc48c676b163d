"""Where a reward's files are, answered without importing torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from soc_ft.errors import ConfigError, MissingFile, MissingWeights
from soc_ft.files import first_words
from soc_ft.hub import is_hub_id, obstacle
from soc_ft.integrity import check_whole


@dataclass(frozen=True)
class WeightFile:
    """A file that a reward needs.

    Attributes:
        reward: name of the reward.
        argument: of the reward's constructor that says where the file is.
        repository: id on the Hugging Face hub where it is published.
        filename: its name there.
        given: value of the argument: a file, a folder that holds ``filename``, or a hub id, with
            @revision behind it if wanted; None is ``repository``.
        key: of the reward in the configuration.
    """

    reward: str
    argument: str
    repository: str
    filename: str
    given: str | None = None
    key: str = "reward"

    def __str__(self) -> str:
        """The setting that decides it, as messages begin."""
        place = self.given or self.repository
        return f"{self.key}.{self.argument}={place} (of {self.reward})"

    def check(self) -> None:
        """Check within seconds that the file is there and whole, or can be downloaded.

        Raises:
            ConfigError: says where it was looked for and how to provide it.
        """
        local = self._local()
        if local is not None:
            self._check_whole(local)
        else:
            from huggingface_hub import constants

            repository, revision = self._hub()
            if reason := obstacle(repository, self.filename, revision):
                raise self._missing(
                    f"there is no such file; as a hub id (revision {revision or 'main'}), "
                    f"{self.filename} is not in the cache {constants.HF_HUB_CACHE}, {reason}"
                )

    def fetch(self) -> Path:
        """The file on disk, downloaded if need be.

        Raises:
            ConfigError: it is not there and cannot be downloaded.
        """
        local = self._local()
        if local is not None:
            return local
        from huggingface_hub import hf_hub_download
        from huggingface_hub.errors import HfHubHTTPError

        repository, revision = self._hub()
        try:
            return Path(hf_hub_download(repository, self.filename, revision=revision))
        except (OSError, HfHubHTTPError) as error:
            said = first_words(error)
            raise self._missing(f"the download from the hub failed ({said})") from error

    def _local(self) -> Path | None:
        """The file where it needs no download; None for a hub id that is not in the cache."""
        place = self.given or self.repository
        path = Path(place).expanduser()
        if path.is_dir():
            if not (path / self.filename).is_file():
                raise self._missing(f"the folder {path} has no {self.filename}")
            return path / self.filename
        if path.is_file():
            return path
        repository, revision = self._hub()
        if not is_hub_id(repository):
            raise self._missing(f"there is no file {path}")
        from huggingface_hub import try_to_load_from_cache

        cached = try_to_load_from_cache(repository, self.filename, revision=revision)
        return Path(cached) if isinstance(cached, str) else None

    def _check_whole(self, file: Path) -> None:
        try:
            check_whole(file)
        except ConfigError as error:
            raise ConfigError(f"{self}: {error}") from None

    def _hub(self) -> tuple[str, str | None]:
        repository, _, revision = (self.given or self.repository).partition("@")
        return repository, revision or None

    def _missing(self, problem: str) -> ConfigError:
        missing = MissingFile(
            str(self),
            f"hf download {self.repository} {self.filename}",
            f"{self.key}.{self.argument}=/path/{self.filename}",
        )
        return MissingWeights(problem, [missing])
