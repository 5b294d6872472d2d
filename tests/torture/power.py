"""Power losses by the hundred: a storage lives, its disk's steps are recorded, and then the power goes at any of them.

At each chosen moment an image is made of what may be on the disk, and a storage opened on it is inspected. The next
life goes on from one of the images. Some images lose their power once more while they recover.
"""

import random
import shutil
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from tests.torture.disk import Disk, Link, Losses, Rename, Step, Tree, Truncate, Unlink, Write, write_tree
from tests.torture.inspection import Inspection
from tests.torture.ledger import Ledger
from tests.torture.recorder import Recorder
from tests.torture.scribe import DATA, Scribe, open_as

from waypost.storage.sqlite import DATABASE

_INDEX = 32768  # octets of rubbish in the log's index, which SQLite must not believe
_ONCE_MORE = 0.1  # the share of images that lose their power again


class PowerLossError(AssertionError):
    """An image broke a promise. The message says when the power went, and everything that is wrong."""


@dataclass
class PowerFigures:
    """What a torture of this kind amounts to."""

    lives: int = 0
    deeds: int = 0
    steps: int = 0
    images: int = 0
    recoveries: int = 0  # images of a recovery
    checkpoints: int = 0  # images of a moment in which the log was being moved


@dataclass
class PowerTorture:
    """Lives of one storage under `folder`. `deaf`: see `Recorder`."""

    folder: Path
    seed: int
    deaf: Collection[str] = ()
    tell: Callable[[str], None] = lambda line: None

    def __post_init__(self) -> None:
        self.figures = PowerFigures()
        self._chance = random.Random(self.seed)

    async def run(self, *, lives: int, deeds: int, images: int) -> PowerFigures:
        """Live so often, each time with about so many deeds and images. Raises `PowerLossError`."""
        tree: Tree = {}
        ledger = Ledger()
        with patch("waypost.storage.sqlite.commit.checkpoint._PAUSE", 0.01):  # seconds, when a checkpoint was disturbed
            for _ in range(lives):
                tree, ledger = await self._life(tree, ledger, deeds, images)
                self.figures.lives += 1
                self.tell(f"life {self.figures.lives} of {lives}: {self.figures.images} images so far")
        return self.figures

    async def _life(self, tree: Tree, ledger: Ledger, deeds: int, images: int) -> tuple[Tree, Ledger]:
        recorder = await self._record(tree, ledger, deeds)
        moments = self._moments(recorder, ledger, images)
        chosen = self._chance.choice(moments)
        after = tree, ledger
        disk, applied = Disk(), 0
        for moment in moments:
            disk.apply(recorder.steps[applied:moment])
            applied = moment
            image = disk.image(Losses(self._chance))
            found = await self._inspect(image, ledger, moment, f"step {moment} of {len(recorder.steps)}")
            self.figures.images += 1
            if moment == chosen:
                after = image, ledger.survive(found.found, found.attempts, found.told, moment)
            if self._chance.random() < _ONCE_MORE:
                await self._once_more(image, ledger, moment)
        return after

    async def _record(self, tree: Tree, ledger: Ledger, deeds: int) -> Recorder:
        root = self.folder / "disk"
        self._write(tree, root)
        with Recorder(root, self.deaf) as recorder:
            scribe = Scribe(recorder, ledger, self._chance)
            before = ledger.deeds
            await scribe.live(deeds // 2)
            await scribe.live(deeds - deeds // 2)  # stopped and started again between
            recorder.check()
        self.figures.deeds += ledger.deeds - before
        self.figures.steps += len(recorder.steps) - recorder.began
        shutil.rmtree(root)
        return recorder

    def _moments(self, recorder: Recorder, ledger: Ledger, images: int) -> list[int]:
        """Return when the power goes: anywhere, right after an acknowledgement, next to changes of names and sizes, and
        while a checkpoint moves the log.
        """
        steps, begin = recorder.steps, recorder.began
        everywhere = range(begin, len(steps) + 1)
        named = _positions(steps, begin, lambda step: isinstance(step, Link | Unlink | Rename | Truncate))
        database = recorder.nodes_called(DATABASE)
        moved = _positions(steps, begin, lambda step: isinstance(step, Write) and step.node in database)
        quarter = images // 4
        self.figures.checkpoints += quarter
        moments = self._chance.choices(everywhere, k=images - 3 * quarter)
        for kind in (ledger.acknowledgements(), named, moved):
            moments += self._chance.choices(kind, k=quarter)
        return sorted(moments)

    async def _inspect(self, image: Tree, ledger: Ledger, moment: int, when: str) -> Inspection:
        folder = self.folder / "image"
        self._write(image, folder)
        with Recorder(folder):  # so that nothing is really synced
            inspection = Inspection(folder / DATA, ledger, moment)
            await inspection.run()
        shutil.rmtree(folder)
        if inspection.problems:
            self._write(image, self.folder / "failed")
            about = f"seed {self.seed}, life {self.figures.lives + 1}, power lost at {when}: see {self.folder}/failed"
            raise PowerLossError("\n  ".join([about, *inspection.problems[:20]]))
        return inspection

    async def _once_more(self, image: Tree, ledger: Ledger, moment: int) -> None:
        """The power comes back, the storage recovers and keeps house, and the power goes again."""
        folder = self.folder / "recovering"
        self._write(image, folder)
        with Recorder(folder) as recorder:
            opened = await open_as(folder / DATA, 0)
            await opened.maintain(smallest=0)
            await opened.close()
        shutil.rmtree(folder)
        for again in self._chance.choices(range(recorder.began, len(recorder.steps) + 1), k=2):
            disk = Disk()
            disk.apply(recorder.steps[:again])
            second = disk.image(Losses(self._chance))
            when = f"step {moment}, and again at step {again - recorder.began} of the recovery"
            await self._inspect(second, ledger, moment, when)
            self.figures.recoveries += 1

    def _write(self, image: Tree, folder: Path) -> None:
        write_tree(image, folder)
        if (folder / DATA).is_dir():
            (folder / DATA / f"{DATABASE}-shm").write_bytes(self._chance.randbytes(_INDEX))


def _positions(steps: Sequence[Step], begin: int, wanted: Callable[[Step], bool]) -> list[int]:
    """Return the moments right before and right after the wanted steps."""
    found = [position for position in range(begin, len(steps)) if wanted(steps[position])]
    return [moment for position in found for moment in (position, position + 1)]
