"""The folders of a processing job as SageMaker lays them out below /opt/ml. The standard library alone."""

import shutil
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from sightline.launch.container.folder import OPT_ML
from sightline.runs.archives import unpack
from sightline.runs.override_text import in_quotes, key_of, quoted, unquoted

INPUTS = "${paths.inputs}/"
"""How the override of a job begins its paths."""
NO_CHAMPION = "NONE"
"""The file of a channel that says that there is nothing to compare with."""
ARCHIVE = "model.tar.gz"
"""A registered package in one file, the only one of its channel."""
PACKAGE, RESULT = "package", "result.json"


@dataclass(frozen=True)
class ProcessingFolder:
    """Where a step of a pipeline reads and writes: the channels in `inputs`, its results in `output`."""

    base: Path = OPT_ML

    @property
    def inputs(self) -> Path:
        return self.base / "processing" / "input"

    @property
    def output(self) -> Path:
        return self.base / "processing" / "output"

    @property
    def unpacked(self) -> Path:
        """For packages that come as an archive: channels are read alone."""
        return self.base / "processing" / "unpacked"

    @property
    def message(self) -> Path:
        """The reason of a failure, for the service."""
        return self.base / "output" / "message"

    @property
    def result(self) -> Path:
        """What a program with verbs prints as JSON."""
        return self.output / RESULT

    def begin(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        self.message.unlink(missing_ok=True)

    def arguments(self, words: Sequence[str]) -> list[str]:
        """The arguments of a program, with paths as they are here.

        `words` are overrides, after a verb and names for programs that have them.

        Raises: BadInput for a damaged archive.
        """
        has_verb = bool(words) and "=" not in words[0] and words[0][0] not in "+~-"
        given = [each for word in words for each in self._argument(word)]
        here = ["paths=container", f"paths.inputs={quoted(str(self.inputs))}", "launch=here"]
        if has_verb:
            return [*given, *here]
        kept = [each for each in given if key_of(each) not in ("output", "launch", "hydra.mode")]
        return [*kept, *here, "hydra.mode=RUN", f"output={quoted(str(self.output))}"]

    def _argument(self, word: str) -> Iterator[str]:
        """The word, with the folder of an unpacked package in it; nothing where its channel says that there is none."""
        key, _, value = word.partition("=")
        text = unquoted(value)
        if not text.startswith(INPUTS):
            yield word
            return
        channel, slash, inside = text.removeprefix(INPUTS).partition("/")
        folder = self.inputs / channel
        names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
        if names == [NO_CHAMPION]:
            return
        if names == [ARCHIVE]:
            yield f"{key}={in_quotes(f'{self._unpack(folder / ARCHIVE, channel)}{slash}{inside}')}"
        elif key_of(word) == "extensions":  # its configurations are read before anything is composed
            yield f"{key}={in_quotes(f'{folder}{slash}{inside}')}"
        else:
            yield word

    def _unpack(self, archive: Path, channel: str) -> Path:
        folder = self.unpacked / channel
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        unpack(archive, folder)
        return folder

    def pack(self) -> None:
        """Put the package that was made into one archive beside it, the same bytes for the same files."""
        package = self.output / PACKAGE
        if not package.is_dir():
            return
        import gzip

        with (
            (self.output / ARCHIVE).open("wb") as file,
            gzip.GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as archive,
        ):
            for path in sorted(package.rglob("*")):
                if path.is_file():
                    archive.add(path, path.relative_to(package).as_posix(), filter=_without_owner)


def _without_owner(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = ""
    member.mtime, member.mode = 0, 0o644
    return member
