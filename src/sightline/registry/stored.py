"""A registry of files: the same rules wherever the files lie."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Protocol

from sightline.config import did_you_mean
from sightline.errors import BadInput
from sightline.registry.package import Package, read_package
from sightline.registry.rules import (
    APPROVED,
    TAKES,
    changed,
    check_change,
    event,
    newest_approved,
    next_time,
    with_true_stages,
)
from sightline.registry.version import STAGES, STATUSES, Version, check_name
from sightline.runs.record import now

NUM_READERS = 8
MAX_TRIES = 50
"""Of a change that others come before."""


class Store(Protocol):
    """Where the files of versions lie: `<name>/<number>/`, complete once version.json is there."""

    place: str

    def check_writable(self, version: Version | None = None) -> None:
        """Raises: BadInput for a place that takes no new version, or no change of one, before anything is written."""
        ...

    def names(self) -> list[str]: ...

    def numbers(self, name: str) -> list[int]:
        """Of the complete versions of a name, in order."""
        ...

    def read(self, name: str, number: int) -> tuple[Version, str]:
        """A version as its version.json states it, and the mark of that state."""
        ...

    def write(self, version: Version, mark: str) -> bool:
        """Write version.json, unless its state is no longer that of the mark: False."""
        ...

    def changing(self, name: str) -> AbstractContextManager[None]:
        """Keeps other writers of a name away where the place can."""
        ...

    def put(self, package: Package, name: str, make: Callable[[int], Version]) -> Version | None:
        """Keep a package as the next version, or nothing at all; None where another writer was first."""
        ...

    def fetch(self, version: Version) -> Path: ...

    def differences(self, version: Version) -> list[str]: ...

    def remove(self, version: Version) -> None: ...


class StoredRegistry:
    """The registry of a store."""

    def __init__(self, store: Store) -> None:
        self.store, self.place = store, store.place

    def check_writable(self) -> None:
        self.store.check_writable()

    def names(self) -> list[str]:
        return self.store.names()

    def versions(self, name: str) -> list[Version]:
        check_name(name)
        found = self._read(name)
        if not found:
            known = self.store.names()
            hint = did_you_mean(name, known) or (f"; there are {', '.join(known)}" if known else "; it is empty")
            raise BadInput(f"{name}: no model of that name in {self.place}{hint}")
        return found

    def _read(self, name: str) -> list[Version]:
        with ThreadPoolExecutor(NUM_READERS) as pool:
            found = pool.map(lambda number: self.store.read(name, number)[0], self.store.numbers(name))
            return with_true_stages([*found])

    def get(self, name: str, which: str | None = None) -> Version:
        versions = self.versions(name)
        if which is None:
            return newest_approved(versions, self.place)
        if which in STAGES:
            found = next((each for each in versions if which in each.stages), None)
            if found is None:
                last = next((each for each in reversed(versions) if each.status == APPROVED), versions[-1])
                raise BadInput(
                    f"registry:{name}/{which}: no version is in {which}; python src/registry.py stage "
                    f"{last.spelled()} {which} puts one there"
                )
            return found
        found = next((each for each in versions if str(each.number) == which), None)
        if found is None:
            there = ", ".join(str(each.number) for each in versions[-10:])
            raise BadInput(f"{name}/{which}: no such version in {self.place}; there are {there}")
        return found

    def add(self, package: Path, name: str, *, facts: Mapping[str, Any], by: str, status: str = "pending") -> Version:
        check_name(name)
        if status not in STATUSES:
            raise BadInput(f"{status}: no status of a version; there are {', '.join(STATUSES)}")
        self.store.check_writable()
        read = read_package(package)
        rest = {key: value for key, value in facts.items() if key not in ("gate", "data", "commit")}
        for _ in range(MAX_TRIES):
            with self.store.changing(name):
                before = self._read(name)
                if before and before[-1].sha256 == read.sha256:
                    return before[-1]

                def make(number: int, before: list[Version] = before) -> Version:
                    return Version(
                        name,
                        number,
                        read.sha256,
                        status,
                        (),
                        read.metrics,
                        facts.get("gate"),
                        facts.get("data") or {},
                        facts.get("commit"),
                        now(),
                        (event("add", by, None if status == "pending" else status, next_time(before)),),
                        read.files_sha256,
                        rest,
                    )

                if (added := self.store.put(read, name, make)) is not None:
                    return added
        raise BadInput(f"{self.place}/{name}: others add versions all the time; try again")

    def change(self, version: Version, what: str, by: str, why: str | None) -> Version:
        self.store.check_writable(version)
        action, _, stage = what.partition(":")
        with self.store.changing(version.name):
            after = self._write(version, what, by, why)
            if action in TAKES:
                for each in self.store.numbers(version.name):
                    other, _ = self.store.read(version.name, each)
                    if each != version.number and stage in other.stages:
                        self._write(other, f"replaced:{stage}", by, f"{version.spelled()} took its place")
        return after

    def _write(self, version: Version, what: str, by: str, why: str | None) -> Version:
        """Raises: BadInput for what the version, as it is by now, may not have."""
        for _ in range(MAX_TRIES):
            stated, mark = self.store.read(version.name, version.number)
            all_of_them = self._read(version.name)
            true = next(each for each in all_of_them if each.number == version.number)
            if not what.startswith("replaced:"):
                check_change(true, what)
            elif what.partition(":")[2] in true.stages:
                return true  # a third writer has given it back meanwhile
            after = changed(stated, what, by, why, next_time(all_of_them))
            if self.store.write(after, mark):
                return after
        raise BadInput(f"{version.spelled()}: others change it all the time; try again")

    def fetch(self, version: Version) -> Path:
        return self.store.fetch(version)

    def differences(self, version: Version) -> list[str]:
        return self.store.differences(version)

    def remove(self, version: Version) -> None:
        self.store.check_writable(version)
        with self.store.changing(version.name):
            versions = self.versions(version.name)
            true = next((each for each in versions if each.number == version.number), None)
            if true is None:
                raise BadInput(f"{version.spelled()}: no such version in {self.place}")
            if true.stages or true.status == APPROVED:
                held = f"in {true.stages[0]}" if true.stages else APPROVED
                raise BadInput(
                    f"{version.spelled()} is {held}, and stays; reject it first, or give its stage to another"
                )
            if true.number == versions[-1].number:
                raise BadInput(
                    f"{version.spelled()} is the newest version, and its number would come again; reject it instead"
                )
            self.store.remove(true)
