"""An archive: recordings in, outcomes out.

Short recordings are one call each. Long WAV files are cut into blocks, so that one file keeps all workers busy; their
answers are put together here, in order, and smoothed as one stream. What is kept does not grow with the recordings.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from ..decisions import Decisions
from ..dense_stream import Answers
from ..segments import Segment
from .engines import Engine
from .inputs import Source
from .work import Cut, Done, Failed, Job, answer_block, cut, segment_whole

BLOCK_FRAMES = 30_000  # five minutes
_AHEAD = 3  # windows of blocks that may wait for a late one

Result = Done | Failed
Progress = Callable[[float], None]


@dataclass(frozen=True)
class Outcome:
    """What came of a recording."""

    source: Source
    result: Result


@dataclass
class _Long:
    """A recording of which blocks are under way."""

    cut: Cut
    decisions: Decisions
    segments: list[Segment] = field(default_factory=list)
    waiting: dict[int, Answers] = field(default_factory=dict)  # blocks that came before their turn
    next: int = 0


class Archive:
    """The work on many recordings.

    Parameters
    ----------
    job : Job
    engine : Engine
    block_frames : int
        Frames in a block of a long recording, about.
    progress : callable, optional
        Gets the seconds of sound whenever some are done.
    """

    def __init__(
        self, job: Job, engine: Engine, *, block_frames: int = BLOCK_FRAMES, progress: Progress | None = None
    ) -> None:
        self._job, self._engine = job, engine
        self._block_frames, self._progress = block_frames, progress
        self._long: dict[int, _Long] = {}

    def run(self, sources: Sequence[Source]) -> Iterator[Outcome]:
        """Yield an outcome for each recording as it is done, in any order."""
        calls = self._calls(sources)
        call = next(calls, None)
        under_way = 0
        while call is not None or under_way:
            window = self._engine.window
            while call is not None and under_way < window:
                number, block = call
                path = sources[number].path
                if block is None:
                    self._engine.submit(call, segment_whole, self._job, path)
                elif (long := self._long.get(number)) is None:  # an earlier block has failed
                    call = next(calls, None)
                    continue
                elif block - long.next >= _AHEAD * window and under_way:
                    break  # one block is late, and those after it pile up
                else:
                    self._engine.submit(call, answer_block, self._job, path, long.cut.blocks[block])
                under_way += 1
                call = next(calls, None)
            if not under_way:
                return
            (number, block), result = self._engine.take()
            under_way -= 1
            done = self._finish(result) if block is None else self._gather(number, block, result)
            if done is not None:
                yield Outcome(sources[number], done)

    def _calls(self, sources: Sequence[Source]) -> Iterator[tuple[int, int | None]]:
        """Yield (recording, block or None), planned no sooner than they are needed."""
        bundle = self._job.bundle
        for number, source in enumerate(sources):
            pieces = cut(source.path, bundle, self._block_frames)
            if pieces is None:
                yield number, None
                continue
            decisions = Decisions(bundle.classes, self._job.settings, hop_s=bundle.front_end.hop_s)
            self._long[number] = _Long(pieces, decisions)
            yield from ((number, block) for block in range(len(pieces.blocks)))

    def _tell(self, seconds: float) -> None:
        if self._progress:
            self._progress(seconds)

    def _finish(self, result: Result) -> Result:
        if isinstance(result, Done):
            self._tell(result.seconds)
        return result

    def _gather(self, number: int, block: int, result: Answers | Failed) -> Result | None:
        """Take a block's answers; return the recording's result once it is there."""
        long = self._long.get(number)
        if long is None:  # has failed before
            return None
        if isinstance(result, Failed):
            del self._long[number]
            return result
        long.waiting[block] = result
        while (answers := long.waiting.pop(long.next, None)) is not None:
            self._tell(len(answers) * self._job.bundle.front_end.hop_s)
            long.segments += long.decisions.push(answers)[0]
            long.next += 1
        if long.next < len(long.cut.blocks):
            return None
        del self._long[number]
        long.segments += long.decisions.finish(long.cut.seconds)
        return Done(long.cut.seconds, tuple(long.segments))

