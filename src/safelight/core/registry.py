"""A table of records by id and alias: filled at start-up, then closed."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Generic, Protocol, TypeVar

from safelight.core.names import nearest, one_of
from safelight.errors import InvalidRequest, InvalidValue


class Record(Protocol):
    """What a registry holds: anything with an id and further names."""

    @property
    def id(self) -> str:
        """The canonical name."""
        ...

    @property
    def aliases(self) -> tuple[str, ...]:
        """Other names, compared without case."""
        ...


T = TypeVar("T", bound=Record)


class Registry(Generic[T]):
    """Records of one kind, found by id or alias without regard to case.

    Open until `close()`: whoever builds the program registers built-ins and extensions, then closes it.
    """

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self._records: dict[str, T] = {}
        self._names: dict[str, str] = {}
        self._closed = False

    def register(self, record: T) -> T:
        """Add a record; ValueError if a name is taken or the table is closed."""
        if self._closed:
            raise ValueError(f"The table of {self.kind}s is closed; register {record.id!r} before the program starts.")
        names = [name.casefold() for name in (record.id, *record.aliases)]
        taken = [name for name in names if name in self._names]
        if taken or len(set(names)) != len(names):
            raise ValueError(f"The {self.kind} {record.id!r} has a name that is taken: {', '.join(taken or names)}.")
        self._records[record.id] = record
        self._names.update(dict.fromkeys(names, record.id))
        return record

    def close(self) -> Registry[T]:
        """No more records from here on; returns itself."""
        self._closed = True
        return self

    def find(self, name: str) -> T | None:
        """The record of that id or alias, or None."""
        known = self._names.get(name.casefold())
        return None if known is None else self._records[known]

    def get(self, name: str, path: str = "") -> T:
        """The record of that id or alias; InvalidRequest at `path` with the nearest names otherwise."""
        record = self.find(name)
        if record is not None:
            return record
        near = self.nearest(name)
        hint = f"Did you mean {one_of(repr(each) for each in near)}? " if near else ""
        raise InvalidRequest(
            InvalidValue(
                path or self.kind, f"there is no {self.kind} {name!r}", f"{hint}Known: {one_of(self._records, 20)}."
            )
        )

    def nearest(self, name: str) -> list[str]:
        """Ids and aliases most like `name`, best first, as ids without repetition."""
        found = nearest(name, self._names)
        return list(dict.fromkeys(self._names[each] for each in found))

    def __iter__(self) -> Iterator[T]:
        return iter(self._records.values())

    def __len__(self) -> int:
        return len(self._records)

    def __contains__(self, name: str) -> bool:
        return self.find(name) is not None
