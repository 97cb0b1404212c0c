"""`framechain stages`: every component that is installed, with its options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator, Sequence
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import typer
from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.sink import sinks
from pipeline.source import sources
from pipeline.stage import stages as stage_registry
from trackers.registry import BrokenPlugin, Registry, nearest
from trackers.tracker import Tracker, registry
from trackers.tracker import options as tracker_options

REQUIRED = "(required)"


def stages(
    name: Annotated[str | None, typer.Argument(help="show this one only")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False,
) -> None:
    """List every stage, source, sink and tracker that is installed, with its options."""
    found = [entry for entry in _components() if name in (None, entry["name"])]
    if not found:
        raise UsageError(
            f"there is no component called '{name}'{nearest(name or '', {e['name'] for e in _components()})}"
        )
    if as_json:
        print(json.dumps(found, indent=2, default=str))
        return
    console = Console(highlight=False)
    for kind in ("stage", "source", "sink", "tracker"):
        entries = [entry for entry in found if entry["kind"] == kind]
        if entries:
            console.print(f"[bold]{kind.capitalize()}s[/bold]")
        for entry in entries:
            _show(console, entry)


def _show(console: Console, entry: dict[str, Any]) -> None:
    origin = "" if entry["package"] == "framechain" else f" [dim](from {entry['package']})[/dim]"
    flow = " → ".join(", ".join(entry.get(key, ["image"])) for key in ("requires", "provides") if "provides" in entry)
    console.print(f"  [cyan bold]{entry['name']}[/cyan bold]{origin}  [dim]{flow}[/dim]")
    console.print(Padding(Text(entry["about"]), (0, 0, 0, 4)))
    table = Table.grid(padding=(0, 2))
    for option in entry["options"]:
        default = "required" if option["default"] is REQUIRED else _shown(option["default"])
        table.add_row(Text(option["name"]), Text(option["type"]), Text(default), Text(option["about"]), style="dim")
    console.print(Padding(table, (0, 0, 1, 4)))


def _shown(value: Any) -> str:
    return "" if value is None or value == "" else f"{value:g}" if isinstance(value, float) else str(value)


def _components() -> list[dict[str, Any]]:
    return [entry for kind in (stage_registry, sources, sinks, registry) for entry in _of_registry(kind)]


def _of_registry(components: Registry[Any]) -> Iterator[dict[str, Any]]:
    for name in components.names():
        entry: dict[str, Any] = {"kind": components.kind, "name": name, "package": components.origin(name)}
        try:
            component = components.load(name)
        except BrokenPlugin as error:
            yield {**entry, "about": str(error), "options": []}
            continue
        for flow in ("requires", "provides"):
            if words := getattr(component, flow, None):
                entry[flow] = sorted(words)
        about = (inspect.getdoc(component) or "").split("\n")[0]
        options = _tracker_options if issubclass(component, Tracker) else _options
        yield {**entry, "about": about, "options": list(options(component))}


def _tracker_options(tracker: type[Tracker]) -> Iterator[dict[str, Any]]:
    for option in tracker_options(tracker).values():
        yield {"name": option.name, "type": option.type.__name__, "default": option.default, "about": option.doc}


def _options(component: type[Component]) -> Iterator[dict[str, Any]]:
    for name, option in component.model_fields.items():
        yield {
            "name": name,
            "type": _type_name(option.annotation),
            "default": REQUIRED if option.is_required() else option.get_default(call_default_factory=True),
            "about": option.description or "",
        }


def _type_name(annotation: Any) -> str:
    """A type in the words of somebody who writes YAML.

    >>> _type_name(Literal["tracks", "frame"] | None), _type_name(tuple[str, ...]), _type_name(int)
    ('tracks | frame', 'list of str', 'int')
    """
    kind, arguments = get_origin(annotation), get_args(annotation)
    if kind is Literal:
        return " | ".join(map(str, arguments))
    if kind in (Union, UnionType):
        return " | ".join(_type_name(argument) for argument in arguments if argument is not type(None))
    if kind is Annotated:
        return _type_name(arguments[0])
    if kind in (list, tuple, Sequence):
        return f"list of {_type_name(arguments[0])}"
    return getattr(annotation, "__name__", str(annotation)).lower()
