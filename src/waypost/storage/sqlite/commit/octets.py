"""The first half of a group commit: octets go to segments, before any row points at them.

Many are made durable there; few get a copy that is committed with their rows (`copies.py`). What fails here fails for
the operation that it belongs to; the others of the group go on.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

from waypost.disk.folders import sync_folder
from waypost.storage.errors import StorageError, StorageFull
from waypost.storage.spool import NewMessage
from waypost.storage.sqlite.commit.copies import Copies
from waypost.storage.sqlite.commit.operation import Operation
from waypost.storage.sqlite.commit.space import Space
from waypost.storage.sqlite.segments.arriving import ArrivingFile
from waypost.storage.sqlite.segments.bodies import body_of
from waypost.storage.sqlite.segments.numbering import Numbering
from waypost.storage.sqlite.segments.segments import Location, OpenSegment

log = logging.getLogger(__name__)

_FEW = 64 << 10  # octets: a second flush of the disk costs more than writing them twice
_MOST_UNFLUSHED = 1 << 20  # octets of a segment that have copies
_WORTH_COMPACTING = 1 << 20  # octets, as for `SqliteStorage.maintain`


class OctetsWritten:
    """Where the octets of a group are, and which operations failed."""

    def __init__(self) -> None:
        self.locations: dict[int, Location] = {}  # by id() of the message, which outlives this
        self.errors: dict[int, BaseException] = {}  # by id() of the operation

    def fail(self, operation: Operation, error: BaseException) -> None:
        """An operation failed; the first reason stays."""
        self.errors.setdefault(id(operation), error)


class Octets:
    """Writes octets in the writer's thread."""

    def __init__(self, folder: Path, *, segment_size: int, space: Space, numbering: Numbering, copies: Copies) -> None:
        self._folder = folder
        self._copies = copies
        self._most_unflushed = min(_MOST_UNFLUSHED, segment_size // 4, space.log // 8)
        self._segment_size = segment_size
        self._space = space
        self._numbering = numbering
        self._segment: OpenSegment | None = None

    def write(self, operations: Sequence[Operation]) -> OctetsWritten:  # hot: bench/accept
        """Write all octets: those in memory together, files each under a number of its own.

        They are durable when this returns, or will be with the copies that the commit of their rows takes along.
        """
        self._copies.drop_new()
        written = OctetsWritten()
        files: list[tuple[Operation, NewMessage | None, ArrivingFile]] = []
        small: dict[int, list[NewMessage]] = {}
        for operation in operations:
            for message in operation.messages:
                file = body_of(message).file
                if file is None:
                    small.setdefault(id(operation), []).append(message)
                else:
                    files.append((operation, message, file))
            files.extend((operation, None, file) for file in operation.files)
        self._refuse_what_has_no_room(operations, small, written)
        files = [item for item in files if id(item[0]) not in written.errors]
        if files:
            self._write_files(files, written)
        whole = [
            operation for operation in operations if id(operation) in small and id(operation) not in written.errors
        ]
        if whole:
            self._append(whole, small, written)
        return written

    def _refuse_what_has_no_room(
        self, operations: Sequence[Operation], small: Mapping[int, list[NewMessage]], written: OctetsWritten
    ) -> None:
        left = self._space.left()
        for operation in operations:
            if operation.incoming:
                needed = sum(message.body.size for message in small.get(id(operation), ()))
                if needed <= left:
                    left -= needed
                else:
                    written.fail(operation, self._space.full())
                    self._let_go_of_large_segment()

    def _let_go_of_large_segment(self) -> None:
        """On a full disk: what was deleted of a segment keeps its space for as long as the segment is open."""
        if self._segment is not None and self._segment.size >= _WORTH_COMPACTING:
            self.close()

    def _write_files(
        self, files: list[tuple[Operation, NewMessage | None, ArrivingFile]], written: OctetsWritten
    ) -> None:
        for operation, message, file in files:
            try:
                if message is not None and not file.durable:
                    body_of(message).finish(file, message.trace, message.head)
            except Exception as error:  # noqa: BLE001  any error is delivered to the operation's future
                written.fail(operation, error)
        files = [item for item in files if id(item[0]) not in written.errors]
        if not files:
            return

        def place(numbers: list[int]) -> None:
            for (operation, _, file), number in zip(files, numbers, strict=True):
                try:
                    file.place(number)
                except Exception as error:  # noqa: BLE001  as above
                    written.fail(operation, error)

        try:
            self._numbering.reserve(len(files), place)
            sync_folder(self._folder)
        except Exception as error:  # noqa: BLE001  as above
            for operation, _, _ in files:
                written.fail(operation, error)
            return
        for _, message, file in files:
            if message is not None:
                written.locations[id(message)] = body_of(message).location(file)

    def _append(self, operations: list[Operation], small: dict[int, list[NewMessage]], written: OctetsWritten) -> None:
        messages = [message for operation in operations for message in small[id(operation)]]
        try:
            records = [(message.trace, [message.head, *body_of(message).parts]) for message in messages]
            segment = self._open_segment()
            try:
                appended = segment.append(records)
                if appended.length <= _FEW and segment.unflushed <= self._most_unflushed:
                    self._copies.add(appended)
                else:
                    segment.flush()
                    self._copies.flushed(segment.id)
            finally:
                if not segment.trusted:
                    self.close()
        except StorageFull as error:
            if len(operations) == 1:
                written.fail(operations[0], error)
                return
            for operation in operations:  # there may be room for some of them
                self._append([operation], small, written)
        except Exception as error:  # noqa: BLE001  as above
            for operation in operations:
                written.fail(operation, error)
        else:
            written.locations.update(
                (id(message), location) for message, location in zip(messages, appended.locations, strict=True)
            )

    def _open_segment(self) -> OpenSegment:
        if self._segment is not None and self._segment.size >= self._segment_size:
            self._retire(self._segment)
        if self._segment is None:
            made: list[OpenSegment] = []
            self._numbering.reserve(1, lambda numbers: made.append(OpenSegment(self._folder, numbers[0])))
            (segment,) = made
            try:
                segment.make_name_durable()  # not while the writers of other processes wait
            except BaseException:
                segment.close()
                raise
            self._segment = segment
        return self._segment

    def _retire(self, segment: OpenSegment) -> None:
        """Append no more to the open segment, which is full."""
        self.close()
        if segment.trusted:
            self._numbering.seal(segment.id, segment.size)

    def close(self) -> None:
        """Flush and close the open segment; the next housekeeping of any process seals it."""
        if self._segment is None:
            return
        segment, self._segment = self._segment, None
        try:
            if segment.trusted and segment.unflushed:
                segment.flush()
        except StorageError as error:  # nothing is lost: the copies are there
            log.error("segment not flushed", extra={"fields": {"segment": segment.id, "error": str(error)}})
        finally:
            segment.close()
            if segment.trusted:
                self._copies.flushed(segment.id)
            else:
                self._copies.leave(segment.id)
