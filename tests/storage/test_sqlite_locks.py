"""Locks of the embedded engine: files that the kernel lets go with their process."""

import errno
import multiprocessing
import os
import signal
from multiprocessing.connection import Connection
from pathlib import Path

import pytest
from tests.storage.faults import failing
from tests.storage.letters import LEASE, START, Engine, Letters, claim

from waypost.storage import Account, Conflict, Mailboxes, Storage, StorageError
from waypost.storage.sqlite.locks import lock_mailbox


class TestLocks:
    async def test_no_files_are_left_behind(self, engine: Engine, mailboxes: Mailboxes, bob: Account) -> None:
        (await mailboxes.lock(bob.inbox)).release()
        assert list((engine.data / "locks").glob("mailbox-*")) == []

    def test_a_lock_ends_with_its_process(self, tmp_path: Path) -> None:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=_hold, args=(tmp_path, theirs))
        process.start()
        assert ours.recv() == "locked"
        with pytest.raises(Conflict):
            lock_mailbox(tmp_path, 1)
        assert process.pid is not None
        os.kill(process.pid, signal.SIGKILL)
        process.join()
        lock_mailbox(tmp_path, 1).release()
        ours.close()
        theirs.close()

    async def test_without_descriptors_a_claim_is_an_error_of_the_storage(
        self, engine: Engine, storage: Storage, letters: Letters
    ) -> None:
        other = await engine.open(worker=1)
        await letters.post(to=["bob@builder.test"])
        await claim(other.storage.queue, 1)
        with failing("open", errno.EMFILE), pytest.raises(StorageError, match="Too many open files"):
            await claim(storage.queue, 2, now=START + LEASE + 1)


def _hold(folder: Path, pipe: Connection) -> None:
    lock_mailbox(folder, 1)
    pipe.send("locked")
    signal.pause()
