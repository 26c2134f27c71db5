"""Commands run in a folder, and all that they say and leave looked through for canaries."""

from __future__ import annotations

import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.canaries import holds, open_files_with_a_canary
from tests.new_rows import ehrmind


class Watched:
    """Runs commands in a folder and keeps what they say."""

    def __init__(
        self, folder: Path, share: int, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        self.folder, self.share, self.capsys, self.caplog = folder, share, capsys, caplog
        self.codes: list[int] = []

    def drawn(self, ways: Iterable[tuple[str, bytes]]) -> Iterator[tuple[str, bytes]]:
        """The first way and one of `share` others, the same ones every time."""
        for place, (how, content) in enumerate(ways):
            if place == 0 or (zlib.crc32(how.encode()) + place) % self.share == 0:
                yield how, content

    def run(self, what: str, *arguments: object, given: Sequence[Path] = ()) -> None:
        self.caplog.clear()
        with warnings.catch_warnings(record=True) as warned:
            warnings.simplefilter("always")
            code = ehrmind(*arguments)
        streams = self.capsys.readouterr()
        logged = "\n".join(f"{record.getMessage()} {record.exc_info}" for record in self.caplog.records)
        said = "\n".join([streams.out, streams.err, logged, *(str(one.message) for one in warned)])
        assert not holds(said), f"{what}: {' '.join(map(str, arguments))}\n{said}"
        assert "fault of ehrmind" not in streams.err and "Traceback" not in streams.err, f"{what}: {streams.err}"
        assert code in (0, 2), f"{what}: {streams.err}"
        if code == 2:
            assert streams.err.count("\n") == 1 and len(streams.err) < 1500, streams.err
        assert not open_files_with_a_canary(self.folder, given), what
        self.codes.append(code)
