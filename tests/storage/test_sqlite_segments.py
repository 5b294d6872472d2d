"""Segments: files that can be read without the database, whose damage is told and never passed on."""

import asyncio
import os
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.storage.letters import HEAD, Engine, Letters, files_in, stored

from waypost.message.trace import TraceId
from waypost.storage import StorageError
from waypost.storage.sqlite import spool as spool_module
from waypost.storage.sqlite.segments.arriving import ArrivingFile
from waypost.storage.sqlite.segments.reader import SegmentReader
from waypost.storage.sqlite.segments.segments import HEADER, MAGIC, OpenSegment, abandoned, segment_path

BOB = "bob@builder.test"


@given(st.lists(st.lists(st.binary(max_size=50), max_size=3), min_size=1, max_size=1200))
def test_a_segment_can_be_read_without_the_database(
    tmp_path_factory: pytest.TempPathFactory, records: list[list[bytes]]
) -> None:
    folder = tmp_path_factory.mktemp("segment")
    segment = OpenSegment(folder, 7)
    locations = segment.append([(TraceId(number), parts) for number, parts in enumerate(records)]).locations
    segment.close()
    octets = segment_path(folder, 7).read_bytes()
    position = 0
    for number, (parts, location) in enumerate(zip(records, locations, strict=True)):
        magic, trace, length, crc = HEADER.unpack_from(octets, position)
        position += HEADER.size
        content = octets[position : position + length]
        assert (magic, trace, crc) == (MAGIC, number, zlib.crc32(content))
        assert (location.offset, location.length, location.crc) == (position, length, crc)
        assert content == b"".join(parts)
        position += length
    assert position == len(octets) == segment.size


def test_a_file_is_abandoned_when_its_writer_is_gone(tmp_path: Path) -> None:
    segment = OpenSegment(tmp_path, 1)
    arriving = ArrivingFile(tmp_path)
    (path,) = tmp_path.glob("arriving-*")
    assert not abandoned(segment_path(tmp_path, 1)) and not abandoned(path)
    segment.close()
    assert abandoned(segment_path(tmp_path, 1))
    assert abandoned(tmp_path / "none")
    arriving.close()
    assert not path.exists()


def test_an_arriving_file_is_closed_when_nobody_holds_it(tmp_path: Path) -> None:
    file = ArrivingFile(tmp_path)
    file.hold()
    file.hold()
    file.close()
    file.write(b"still open")
    file.let_go()
    assert len(list(tmp_path.iterdir())) == 1
    file.let_go()
    file.close()
    assert list(tmp_path.iterdir()) == []


class TestReading:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for number in range(5):
            segment_path(tmp_path, number).write_bytes(b"%d" % number * 10)
        return tmp_path

    def test_few_files_stay_open(self, folder: Path) -> None:
        reader = SegmentReader(folder, keep=2)
        for number in range(5):
            assert reader.read(number, 2, 3) == b"%d" % number * 3
        assert reader.open_files == 2
        reader.close()

    def test_fewer_octets_come_at_the_end(self, folder: Path) -> None:
        reader = SegmentReader(folder)
        assert reader.read(1, 8, 5) == b"11"
        assert reader.read(1, 10, 5) == b""
        assert reader.read_cached(1, 8, 5) is None
        reader.close()

    def test_reads_that_the_system_cuts_short_are_continued(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.pread
        monkeypatch.setattr(os, "pread", lambda fd, length, offset: real(fd, min(length, 3), offset))
        reader = SegmentReader(folder)
        assert reader.read(1, 0, 10) == b"1" * 10
        reader.close()

    def test_what_is_not_in_memory_is_left_to_another_thread(
        self, folder: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def would_wait(*arguments: object) -> int:
            raise BlockingIOError

        monkeypatch.setattr(os, "preadv", would_wait)
        reader = SegmentReader(folder)
        assert reader.read_cached(1, 0, 10) is None
        assert reader.read(1, 0, 10) == b"1" * 10
        reader.close()

    def test_removed_files_are_let_go_so_that_their_space_comes_back(self, folder: Path) -> None:
        reader = SegmentReader(folder)
        for number in (1, 2):
            reader.read(number, 0, 1)
        segment_path(folder, 1).unlink()
        assert reader.read(1, 0, 2) == b"11"  # whoever reads is not disturbed
        assert reader.forget_removed() == 1
        with pytest.raises(FileNotFoundError):
            reader.read(1, 0, 1)
        assert reader.open_files == 1
        reader.close()

    def test_a_file_that_is_being_read_is_not_closed(self, folder: Path) -> None:
        reader = SegmentReader(folder, keep=0)
        file = reader._take(1)
        reader.read(2, 0, 1)
        segment_path(folder, 1).unlink()
        assert reader.forget_removed() == 0
        assert os.pread(file.fd, 2, 0) == b"11"
        reader._give_back(file)
        assert reader.forget_removed() == 1
        reader.close()


class TestDamage:
    @pytest.mark.parametrize("octets", [b"Subject: x\r\n\r\n" + b"a" * 5000, bytes(200_000)], ids=["small", "large"])
    async def test_changed_octets_are_told_at_the_end_of_the_message(
        self, engine: Engine, letters: Letters, octets: bytes
    ) -> None:
        trace = await letters.post(octets, to=[BOB])
        path = segment_path(engine.data / "segments", int(files_in(engine.data)[0][:12]))
        with path.open("r+b") as file:
            file.seek(1000)
            file.write(b"!")
        with pytest.raises(StorageError, match="is damaged on disk, in segment 1"):
            await stored(letters.storage.spool, trace)

    async def test_a_segment_that_is_cut_short_is_told(self, engine: Engine, letters: Letters) -> None:
        trace = await letters.post(b"x" * 1000, to=[BOB])
        path = segment_path(engine.data / "segments", 1)
        os.truncate(path, path.stat().st_size - 10)
        with pytest.raises(StorageError, match="is cut short on disk, in segment 1"):
            await stored(letters.storage.spool, trace)

    async def test_a_segment_that_is_gone_is_told(self, engine: Engine, letters: Letters) -> None:
        trace = await letters.post(b"x" * 1000, to=[BOB])
        segment_path(engine.data / "segments", 1).unlink()
        with pytest.raises(StorageError, match="in segment 1: No such file"):
            await stored(letters.storage.spool, trace)


async def test_idle_workers_let_go_of_removed_segments(
    engine: Engine, letters: Letters, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spool_module, "_LET_GO_EVERY", 0.0)
    trace = await letters.post(b"x", to=[BOB])
    assert await stored(letters.storage.spool, trace) == HEAD + b"x"
    segment_path(engine.data / "segments", 1).unlink()
    for _ in range(100):
        if not letters.storage.spool._reader.open_files:  # type: ignore[attr-defined]
            break
        await asyncio.sleep(0.01)
    assert letters.storage.spool._reader.open_files == 0  # type: ignore[attr-defined]
