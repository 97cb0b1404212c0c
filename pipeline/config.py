"""Configuration: a chain as plain data (YAML, flags), checked and turned into components, errors with lines."""

from __future__ import annotations

import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar, get_args

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from pipeline.address import path_of, redacted
from pipeline.checkpoint.claim import LOCK
from pipeline.checkpoint.file import NAME
from pipeline.component import Component
from pipeline.engine import Pipeline
from pipeline.errors import UsageError
from pipeline.files.output import PLACEHOLDER, check_outputs, file_safe, filled, made_from
from pipeline.files.parts import PART, with_part
from pipeline.sink import Sink, sinks
from pipeline.source import Source, source_for, sources
from pipeline.stage import Stage, check_chain, stages
from pipeline.trace import Trace
from trackers.registry import BrokenPlugin, Registry, UnknownName, nearest

C = TypeVar("C", bound=Component)
M = TypeVar("M", bound=BaseModel)
Key = tuple[str | int, ...]


_LONGEST = 1 << 20  # characters of a configuration


_SHORT = reprlib.Repr()
_SHORT.maxlevel = 2
_SHORT.maxstring = 200


class _Loader(yaml.SafeLoader):
    """Safe, with YAML 1.2's booleans: only true and false are, so that `on: tracks` has the key "on"."""

    yaml_implicit_resolvers = {  # noqa: RUF012  the name and form are PyYAML's
        first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:bool" or first in "tTfF"]
        for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


class Settings(BaseModel):
    """How the engine runs a chain."""

    model_config = ConfigDict(extra="forbid", allow_inf_nan=False)

    keep_going: bool = Field(
        False,
        description="skip and count frames that a stage or sink fails on; go on without sources that cannot be opened, "
        "and take in cameras once they are there",
    )
    queue: int = Field(2, ge=1, le=1024, description="frames that may wait before each part")
    staleness: float = Field(
        0.5, gt=0, description="seconds a live frame may wait, in all queues together, before it is dropped"
    )
    checkpoint: Path | None = Field(None, description="folder in which what the run remembers is saved")
    checkpoint_every: float = Field(5.0, gt=0, le=1e6, description="seconds between two checkpoints")
    resume: bool = Field(False, description="go on from the checkpoint; where there is none, begin anew")
    fresh: bool = Field(False, description="begin anew whatever checkpoint there is")
    on_failure: Literal["end", "skip", "restart"] | None = Field(
        None,
        description="when a stage fails on a frame: end the run; skip and count the frame; or restart the stage, too, "
        "with what it remembers. A sink is never restarted. If empty: skip with keep_going, else end",
    )
    max_sources: int = Field(256, ge=1, le=65536, description="sources at once; more are refused")
    watchdog: float | None = Field(
        60.0,
        gt=0,
        le=1e6,
        description="seconds that a stage or sink may take for one call before the run counts as unhealthy",
    )


@dataclass(slots=True)
class Chain:
    """A checked chain, nothing opened yet."""

    sources: list[Source]
    stages: list[Stage]
    sinks: list[Sink]
    settings: Settings = field(default_factory=Settings)

    def pipeline(self, *more_sinks: Sink, trace: Trace | None = None, service: bool = False) -> Pipeline:
        """A pipeline that runs this chain, into `more_sinks` too; as a service also without any source."""
        sinks = [*self.sinks, *more_sinks]
        settings = self.settings.model_dump()
        return Pipeline(self.sources, self.stages, sinks, trace=trace, service=service, **settings)


class Document:
    """A chain as plain data: what a YAML file says, overlaid by what flags say.

    The keys are `sources`, `stages`, `sinks` and the fields of Settings. A stage or sink is written as its
    name, or as its name with options: `- detect: {confidence: 0.4}`. A source is written as its uri, or as
    `{uri: ..., id: ...}`.

    Attributes:
        data: the plain data.
    """

    def __init__(self, data: dict[str, Any], path: str = "", lines: dict[Key, int] | None = None) -> None:
        self.data = data
        self._path = path
        self._lines = lines or {}
        self._flags: dict[tuple[str, ...], str] = {}  # what said so, where it was not the file

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a YAML file.

        Raises:
            UsageError: it cannot be read, is not YAML, repeats a key, or has unknown sections; with the line.
        """
        try:
            with path.open(encoding="utf-8") as file:
                text = file.read(_LONGEST + 1)
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8 text"
            raise UsageError(f"cannot read the configuration {path}: {reason}; give a YAML file") from error
        if len(text) > _LONGEST:
            raise UsageError(f"{path} is too long for a configuration; give a YAML file")
        lines: dict[Key, int] = {}
        try:
            node = yaml.compose(text, _Loader)
            if node is not None:
                _note_lines(node, (), lines, path, set())
            data = yaml.load(text, _Loader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            where = f" line {mark.line + 1}, column {mark.column + 1}" if mark else ""
            raise UsageError(f"{path}{where}: {error.problem or error.context}; correct the YAML") from error
        except yaml.YAMLError as error:
            raise UsageError(f"{path}: {' '.join(str(error).split())}; correct the YAML") from error
        except RecursionError as error:
            raise UsageError(f"{path} is nested too deep; correct the YAML") from error
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError) as error:  # a date of no calendar ...
            raise UsageError(f"{path}: a value is not what its YAML tag says ({error}); correct the YAML") from error
        if data is None:  # a service that follows it would let go of all cameras while it is being written
            raise UsageError(f"{path} is empty; give a chain, or sources: [] for one without sources")
        document = cls(data, str(path), lines)
        document._check_sections()
        return document

    def names(self, section: str) -> list[str]:
        """Names of the stages or sinks, in order."""
        return [name for entry in self._list(section) if (name := _name(entry)) is not None]

    def settle(self, setting: str, value: Any) -> None:
        """Set one of the fields of Settings, as the flag of that name says."""
        self.data[setting] = value
        self._flags[(setting,)] = _flag(setting)

    def set(self, section: str, name: str, option: str, value: Any, flag: str = "") -> None:
        """Set one option of every stage or sink called `name`; `flag` says so, if one does.

        Raises:
            UsageError: there is none.
        """
        entries = self._list(section)
        if name not in self.names(section):
            raise UsageError(f"{flag or option} is given, but there is no '{name}' in {section}; add '- {name}' there")
        if flag:
            self._flags[section, name, option] = flag
        for position, entry in enumerate(entries):
            if _name(entry) == name and isinstance(_options(entry), dict):  # else that is what `build` refuses
                entries[position] = {name: {**_options(entry), option: value}}

    def give_sources(self, uris: Sequence[str]) -> None:
        """These sources, from the command line, instead of those of the file."""
        self.data["sources"] = list(uris)
        self._flags[("sources",)] = ""

    def set_sources(self, options: dict[str, Any]) -> None:
        """Set options of every source that has them, as the flags of these names say.

        Raises:
            UsageError: none has one of them, or nothing reads a uri.
        """
        if not (options and self._list("sources")):
            return
        self._flags |= {("sources", option): _flag(option) for option in options}
        plain = [{"uri": entry} if isinstance(entry, str | int) else entry for entry in self._list("sources")]
        known = [self._source_kind(entry, ("sources", n)).model_fields for n, entry in enumerate(plain)]
        for option in options:
            if not any(option in fields for fields in known):
                raise UsageError(
                    f"{_flag(option)} is for video files, images and test:, and there are none; leave it out"
                )
        self.data["sources"] = [
            {**entry, **{option: value for option, value in options.items() if option in fields}}
            for entry, fields in zip(plain, known, strict=True)
        ]

    def set_sources_with(self, option: str, value: Any) -> None:
        """Set an option of every source that has it, as the flag of that name says.

        Raises:
            UsageError: none has, or a source is wrong.
        """
        entries = self._list("sources")
        if not entries:
            return
        flag = "--isolate-decode" if option == "isolation" else _flag(option)
        self._flags["sources", option] = flag
        found = False
        for position, entry in enumerate(entries):
            if option in type(self._source(entry, ("sources", position))).model_fields:
                plain = {"uri": entry} if isinstance(entry, str | int) else entry
                entries[position], found = {**plain, option: value}, True
        if not found:
            raise UsageError(f"{flag} is given, but none of the sources has that option; leave it out")

    def add(self, section: str, name: str, after: str | None = None, before: str | None = None) -> None:
        """Add a stage or sink, at the end, after or before another, unless it is there already."""
        if name not in (names := self.names(section)):
            entries = self.data[section] = self._list(section)
            place = names.index(before) if before in names else len(entries)
            entries.insert(names.index(after) + 1 if after in names else place, name)

    def remove(self, section: str, name: str) -> None:
        """Take out every stage or sink called `name`."""
        self.data[section] = [entry for entry in self._list(section) if _name(entry) != name]

    def source(self, number: int) -> Source:
        """The source at this place, not opened.

        Raises:
            UsageError: it is wrong.
        """
        return self._source(self._list("sources")[number], ("sources", number))

    def build(self, reports: Mapping[str, Path | None] | None = None, more: bool = False) -> Chain:
        """Turn the data into components and check that they fit together. Opens nothing.

        Args:
            reports: what will be written besides, by its name ("the report"); none may be another file of the run.
            more: whether sources may come while it runs.

        Raises:
            UsageError: one line that names file, line, key, cause and cure.
        """
        self._check_sections()
        plain = {key: value for key, value in self.data.items() if key not in ("sources", "stages", "sinks")}
        settings = self._validated(Settings, plain, ())
        for wish in ("resume", "fresh"):
            if getattr(settings, wish) and settings.checkpoint is None:
                cure = "name its folder, too: checkpoint, or --checkpoint DIR"
                raise self._error(f"it is about what a checkpoint saves; {cure}", (wish,))
        if (count := len(self._list("sources"))) > settings.max_sources:
            raise self._error(
                f"{count:,} sources are more than max_sources, {settings.max_sources:,}; raise it in the configuration "
                "if they are meant, else name fewer, or run them in groups",
                ("sources",),
            )
        chain = Chain(
            [self._source(entry, ("sources", n)) for n, entry in enumerate(self._list("sources"))],
            [self._component(stages, entry, ("stages", n)) for n, entry in enumerate(self._list("stages"))],
            [self._component(sinks, entry, ("sinks", n)) for n, entry in enumerate(self._list("sinks"))],
            settings,
        )
        if more or len(chain.sources) > 1:
            for sink in chain.sinks:
                _split_by_source(sink)
        try:
            _check_outputs(chain, reports or {}, Path(self._path) if self._path else None)
        except (OSError, RuntimeError) as error:  # links in a circle, nobody's home, folders that are closed
            raise UsageError(f"a path of this chain cannot be followed ({error}); give another one") from error
        check_chain(chain.stages, [(sink.name, sink.requires) for sink in chain.sinks])
        return chain

    def _check_sections(self) -> None:
        if not isinstance(self.data, dict):
            raise self._error("a configuration is a mapping with the keys sources, stages and sinks", ())
        known = ["sources", "stages", "sinks", *Settings.model_fields]
        for key in self.data:
            if key not in known:
                raise self._error(f"unknown key '{key}'{nearest(str(key), known)}", (key,))

    def _list(self, section: str) -> list[Any]:
        entries = self.data.get(section)
        entries = [] if entries is None else entries
        if not isinstance(entries, list):
            raise self._error(f"{section} is a list; begin each entry with '- '", (section,))
        return entries

    def _source(self, entry: Any, where: Key) -> Source:
        options = {"uri": entry} if isinstance(entry, str | int) else entry
        kind = self._source_kind(options, where)
        options = {key: value for key, value in options.items() if key != "source"}
        return self._validated(kind, {**options, "uri": str(options["uri"])}, where)

    def _source_kind(self, options: Any, where: Key) -> type[Source]:
        if not isinstance(options, dict) or "uri" not in options:
            raise self._error("a source is a uri, or a mapping with the key uri", where)
        if not isinstance(options["uri"], str | int) or isinstance(options["uri"], bool):
            raise self._error("a uri is a text", where)
        if "\0" in str(options["uri"]):
            raise self._error("a uri holds no NUL character", where)
        if (name := options.get("source")) is not None:
            return self._load(sources, str(name), where)
        try:
            return source_for(str(options["uri"]))
        except UsageError as error:
            raise self._error(str(error), where) from error

    def _component(self, registry: Registry[C], entry: Any, where: Key) -> C:
        name = _name(entry)
        if name is None or not isinstance(_options(entry), dict):
            kind = registry.kind
            raise self._error(f"a {kind} is a name, or a name with its options: '- name: {{option: value}}'", where)
        return self._validated(self._load(registry, name, where), _options(entry), (*where, name))

    def _load(self, registry: Registry[C], name: str, where: Key) -> type[C]:
        try:
            return registry.load(str(name))
        except (UnknownName, BrokenPlugin) as error:
            raise self._error(str(error.args[0]), where) from error

    def _validated(self, model: type[M], options: dict[str, Any], where: Key) -> M:
        for option, value in options.items():
            if isinstance(value, str) and "\0" in value:
                raise self._error("a text of a configuration holds no NUL character", (*where, str(option)))
        try:
            return model.model_validate(options)
        except ValidationError as error:
            key, message = _first(error, model)
            raise self._error(message, (*where, *key)) from error
        except UsageError as error:
            raise self._error(str(error), where) from error

    def _error(self, message: str, where: Key) -> UsageError:
        if (flag := self._said_by(where)) is not None:
            return UsageError(f"{flag}: {message}" if flag else message)
        line = next((self._lines[where[:n]] for n in range(len(where), -1, -1) if where[:n] in self._lines), None)
        keys = [str(part) for part in where if isinstance(part, str)]
        place = f"{self._path} line {line}, " if line is not None else (f"{self._path}: " if self._path else "")
        return UsageError(f"{place}{'.'.join(keys)}: {message}" if keys else f"{place}{message}")

    def _said_by(self, where: Key) -> str | None:
        """The flag that set what is there; "" where the command line named it without one; None: the file said it."""
        keys = tuple(part for part in where if isinstance(part, str))
        for n in range(len(keys), 0, -1):
            if keys[:n] in self._flags:
                return self._flags[keys[:n]]
        below = {flag for key, flag in self._flags.items() if len(keys) == 2 and key[:2] == keys}
        return below.pop() if len(below) == 1 and not self._path else None


def schema() -> dict[str, Any]:
    """JSON Schema of a configuration file with every component that is installed, for editors."""
    definitions: dict[str, Any] = {}

    def described(model: type[BaseModel]) -> dict[str, Any]:
        own = model.model_json_schema(ref_template="#/$defs/{model}")
        definitions.update(own.pop("$defs", {}))
        own["description"] = (model.__doc__ or "").split("\n")[0]
        return own

    def entries(registry: Registry[C]) -> dict[str, Any]:
        components = {name: described(kind) for name, kind in registry.kinds()}
        named = [
            {"type": "object", "properties": {name: options}, "required": [name], "additionalProperties": False}
            for name, options in components.items()
        ]
        return {"type": "array", "items": {"anyOf": [{"enum": list(components)}, *named]}}

    source_options = {}
    for _, kind in sources.kinds():
        source_options.update(described(kind).get("properties", {}))
    source = {
        "type": "object",
        "required": ["uri"],
        "properties": {**source_options, "source": {"enum": sources.names(), "description": "kind of source"}},
        "additionalProperties": False,
    }
    top = described(Settings)
    top["properties"] |= {
        "sources": {"type": "array", "items": {"anyOf": [{"type": ["string", "integer"]}, source]}},
        "stages": entries(stages),
        "sinks": entries(sinks),
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **top,
        "title": "Framechain chain",
        "description": "Sources, stages and sinks of one run",
        "$defs": definitions,
    }


def _flag(option: str) -> str:
    return f"--{option.replace('_', '-')}"


def _name(entry: Any) -> str | None:
    if isinstance(entry, str):
        return entry
    if isinstance(entry, dict) and len(entry) == 1:
        return str(next(iter(entry)))
    return None


def _options(entry: Any) -> Any:
    options = None if isinstance(entry, str) else next(iter(entry.values()))
    return {} if options is None else options


def _first(error: ValidationError, model: type[BaseModel]) -> tuple[Key, str]:
    """Key and message of the first of pydantic's errors, in our words."""
    details = error.errors(include_url=False, include_context=False, include_input=True)
    # a misspelt option is often the one that then is missing; told first, it explains both
    detail = next((one for one in details if one["type"] == "extra_forbidden"), details[0])
    key = tuple(detail["loc"])
    if detail["type"] == "extra_forbidden":
        return key, f"there is no such option{nearest(str(key[-1]), _fields(model, key[:-1]))}"
    if detail["type"] == "missing":
        return key, "this option must be given"
    message = detail["msg"].removeprefix("Value error, ")
    if detail["type"] == "value_error":
        return key, message
    return key, f"{message}, not {_SHORT.repr(detail['input'])}"  # an alias in an alias in an alias is long


def _fields(model: type[BaseModel], key: Key) -> list[str]:
    """The options of a model, or of the one that is an option of it."""
    for name in key:
        annotation = model.model_fields[str(name)].annotation
        model = next(kind for kind in (annotation, *get_args(annotation)) if isinstance(kind, type))
    return list(model.model_fields)


def _note_lines(node: yaml.Node, key: Key, lines: dict[Key, int], path: Path, seen: set[int]) -> None:
    lines[key] = node.start_mark.line + 1
    if id(node) in seen:  # an alias; one that contains itself would never end
        return
    seen.add(id(node))
    if isinstance(node, yaml.SequenceNode):
        for n, child in enumerate(node.value):
            _note_lines(child, (*key, n), lines, path, seen)
    elif isinstance(node, yaml.MappingNode):
        for name, child in node.value:
            here = (*key, str(name.value))
            if here in lines:
                raise UsageError(f"{path} line {name.start_mark.line + 1}: '{name.value}' is given twice; remove one")
            _note_lines(child, here, lines, path, seen)
            lines[here] = name.start_mark.line + 1


def _split_by_source(sink: Sink) -> None:
    path = getattr(sink, "path", None)
    if sink.per_source and path is not None and PLACEHOLDER not in str(path):
        given = Path(path)
        sink.path = type(path)(given.with_name(f"{given.stem}-{PLACEHOLDER}{given.suffix}"))  # type: ignore[attr-defined]


def _check_outputs(chain: Chain, reports: Mapping[str, Path | None], config: Path | None) -> None:
    """Refuse outputs that would overwrite what the run reads, or one another.

    Args:
        chain: with its sources, the weights of its stages, and its sinks.
        reports: what is written besides, by its name. config: the file the chain was read from.

    Raises:
        UsageError: names both.
    """
    inputs = {path_of(source.uri): f"the source {redacted(source.uri)}" for source in chain.sources if source.uri}
    for stage in chain.stages:
        if weights := getattr(stage, "weights", None):
            inputs[Path(weights)] = f"the weights {weights}"
    if config is not None:
        inputs[config] = f"the configuration {config}"
    written = [(f"sink '{sink.name}'", getattr(sink, "path", None)) for sink in chain.sinks]
    for sink in chain.sinks:
        if (path := getattr(sink, "path", None)) is not None:
            _check_made(sink, Path(path), chain.sources, inputs)
    written += reports.items()
    if (folder := chain.settings.checkpoint) is not None:
        written += [("the checkpoint", folder / file) for file in (NAME, LOCK)]
    check_outputs(written, inputs)


def _check_made(sink: Sink, path: Path, sources: Sequence[Source], inputs: Mapping[Path, str]) -> None:
    """Refuse a path with placeholders from which the name of a file that is read would be made."""
    if getattr(sink, "rotate", None) is not None:
        path = with_part(path)
    if PLACEHOLDER not in str(path) and PART not in str(path):
        return
    ids = {file_safe(source.id or path_of(source.uri).stem) for source in sources}
    for name in sorted(ids):
        template = filled(path, name).resolve()
        for read, what in inputs.items():
            if made_from(read.expanduser().resolve(), template):
                raise UsageError(f"sink '{sink.name}' would overwrite {what}; give it another path")
