"""The Stage contract, the registry of stages, and the check that a chain fits together."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

from pydantic import Field, PrivateAttr
from typing_extensions import Self

from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.frame import Frame
from trackers.registry import Registry


class Dispatch(NamedTuple):
    """How the engine calls a stage: most frames a call, and threads that call it at the same time."""

    batch: int = 1
    workers: int = 1


class Stage(Component, ABC):
    """One step of the chain: reads some fields of a frame and sets others, in place.

    A stage works without an engine: `Detect(weights="yolo11n.onnx").process([frame])`.

    Subclasses declare `name`, `requires` and `provides`; pydantic fields are the options. The words in
    `requires` and `provides` are fields of Frame (`region`, `detections`, `tracks`, `texts`, `canvas`) and
    `features`.
    """

    requires: ClassVar[frozenset[str]] = frozenset()
    provides: ClassVar[frozenset[str]] = frozenset()
    stateless: ClassVar[bool] = False
    """True where `process` may be called from several threads at once and in any order of frames."""

    batch: int | None = Field(
        None, ge=1, le=256, description="most frames given to one call; if empty: what suits the stage"
    )
    workers: int | None = Field(
        None,
        ge=1,
        le=64,
        description="threads that run this stage, more than 1 only if stateless; if empty: what suits the stage",
    )

    _faults: Counter[str] = PrivateAttr(default_factory=Counter)

    @property
    def faults(self) -> Counter[str]:
        """What it could not do and left out, other than whole frames, by kind."""
        return self._faults

    def needs(self) -> frozenset[str]:
        """What this stage reads as it is configured: `requires`, unless its options change that."""
        return self.requires

    def owes(self) -> str | None:
        """Name of a stage that must follow, for what this one leaves undone as it is configured."""
        return None

    def suits(self) -> Dispatch:
        """What suits this stage once it is open, where the user asks for nothing else."""
        return Dispatch()

    def dispatch(self) -> Dispatch:
        """How it is to be called, once it is open: as configured, else as it suits."""
        batch, workers = self.suits()
        return Dispatch(self.batch or batch, self.workers or workers)

    def check(self) -> None:
        """Refuse what can be refused at once; called for the whole chain before anything is opened or loaded.

        Raises:
            UsageError: an option names what is not here.
        """

    def open(self) -> None:
        """Load models. Called once before the first frame; `process` calls it itself where nobody did."""

    def expect(self, width: int, height: int) -> None:
        """Frames of that size will come: what is compiled or read for the first of them can be done now.

        The engine calls it before the first frame of a source, perhaps while frames of others are processed; whoever
        calls `process` by himself need not.
        """

    @abstractmethod
    def process(self, frames: Sequence[Frame]) -> None:
        """Annotate the frames in place.

        They may come from several sources; those of one source are in order. The results for a frame never
        depend on which other frames are in the same call.
        """

    def forget(self, source: str) -> None:
        """A source ended: drop what is remembered of it."""

    def state_dict(self) -> dict[str, Any]:
        """What is remembered of all sources, as new dictionaries and lists of plain values and NumPy arrays.

        Called between two frames, by the thread that calls `process`. Where several call it, there is none.
        """
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from what `state_dict` returned, perhaps in another process. Called once the stage is open.

        Tuples may have become lists. Whatever is raised means that the state is not one of this stage.
        """

    def skip_ids(self, source: str, count: int) -> None:
        """The state that was loaded is older than what became of it: never give the next `count` ids of this source."""

    def close(self) -> None:
        """Release models and memory. The stage may be opened again."""

    def __enter__(self) -> Self:
        self.open()
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


stages: Registry[Stage] = Registry("stage", Stage, "pipeline.stages", "framechain.stages")  # type: ignore[type-abstract]


def check_chain(chain: Sequence[Stage], sinks: Iterable[tuple[str, frozenset[str]]] = ()) -> None:
    """Refuse a chain in which something is read that nothing upstream sets. Loads nothing.

    Args:
        chain: the stages in order.
        sinks: name and `requires` of each sink.

    Raises:
        UsageError: names the stage or sink, what it lacks, and a stage that would provide it.
    """
    provided: set[str] = set()
    for position, stage in enumerate(chain):
        _check_provided(f"stage '{stage.name}'", stage.needs(), provided)
        if (stage.workers or 1) > 1 and not stage.stateless:
            raise UsageError(
                f"stage '{stage.name}' keeps state from frame to frame and runs in one worker; set its workers to 1"
            )
        if (owed := stage.owes()) is not None and owed not in (later.name for later in chain[position + 1 :]):
            raise UsageError(f"stage '{stage.name}' as it is set needs a stage '{owed}' after it; add '- {owed}'")
        provided |= stage.provides
    for name, requires in sinks:
        _check_provided(f"sink '{name}'", requires, provided)


def _check_provided(who: str, requires: frozenset[str], provided: set[str]) -> None:
    missing = sorted(requires - provided)
    if not missing:
        return
    givers = [name for name, kind in stages.kinds() if missing[0] in kind.provides]
    cure = f"put '{givers[0]}' before it" if givers else "no installed stage provides that"
    raise UsageError(f"{who} needs {' and '.join(missing)}, which nothing before it provides; {cure}")
