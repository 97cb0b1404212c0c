"""`framechain stages`: every component that is installed, with its options."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

import trackers
from pipeline.component import Component
from pipeline.errors import UsageError
from pipeline.sink import sinks
from pipeline.source import sources
from pipeline.stage import stages as stage_registry
from trackers.registry import BrokenPlugin, Registry, nearest


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
    origin = "" if entry["package"] == "framechain" else f" ({entry['package']})"
    flow = " → ".join(", ".join(entry[key]) for key in ("requires", "provides") if entry.get(key))
    console.print(
        f"  [cyan]{entry['name']}[/cyan]{origin}  {escape(entry['about'])}" + (f"  [dim]{flow}[/dim]" if flow else "")
    )
    for option in entry["options"]:
        value = "" if option["default"] is None else f" = {option['default']}"
        console.print(escape(f"      {option['name']}: {option['type']}{value}  {option['about']}"), style="dim")


def _components() -> list[dict[str, Any]]:
    return [
        *_of_registry(stage_registry),
        *_of_registry(sources),
        *_of_registry(sinks),
        *_trackers(),
    ]


def _of_registry(registry: Registry[Any]) -> Iterator[dict[str, Any]]:
    for name in registry.names():
        entry: dict[str, Any] = {"kind": registry.kind, "name": name, "package": registry.origin(name)}
        try:
            component = registry.load(name)
        except BrokenPlugin as error:
            yield {**entry, "about": str(error), "options": []}
            continue
        for flow in ("requires", "provides"):
            words = getattr(component, flow, None)
            if isinstance(words, frozenset) and words:
                entry[flow] = sorted(words)
        yield {**entry, "about": _summary(component), "options": list(_options(component))}


def _options(component: type[Component]) -> Iterator[dict[str, Any]]:
    for name, option in component.model_fields.items():
        yield {
            "name": name,
            "type": _type_name(option.annotation),
            "default": "(required)" if option.is_required() else option.get_default(call_default_factory=True),
            "about": option.description or "",
        }


def _type_name(annotation: Any) -> str:
    return annotation.__name__ if inspect.isclass(annotation) else str(annotation).replace("typing.", "")


def _summary(component: type) -> str:
    return (inspect.getdoc(component) or "").split("\n")[0]
