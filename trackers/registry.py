"""Find components by name: those in a package's own modules, and those other packages add by entry point."""

from __future__ import annotations

import difflib
import importlib
import inspect
import pkgutil
from collections.abc import Iterable, Iterator
from functools import cached_property
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, TypeVar

T = TypeVar("T")

_NAMED = 24  # of the eighty classes of COCO a line names so many


class UnknownName(LookupError):
    """No component has this name; the message names the nearest one."""


class BrokenPlugin(ImportError):
    """An entry point names something that cannot be loaded or is not a component of the right kind."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Finish an error message with a suggestion.

    >>> nearest("detekt", ["detect", "track"])
    "; did you mean 'detect'?"
    >>> nearest("qqq", ["detect", "track"])
    '; there are: detect, track'
    """
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean '{close[0]}'?"
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return f"; there are: {', '.join(names[:_NAMED])}{more}"


class Registry(Generic[T]):
    """All concrete subclasses of `base` found in the modules of `package` and under the entry-point `group`.

    A class is registered by its class attribute `name`, so a new component is one new file.

    Args:
        kind: what a component is called in messages ("stage", "tracker").
        base: the contract; abstract subclasses are left out.
        package: import name of the package whose modules are searched, one level deep.
        group: entry-point group through which other packages add components.
    """

    def __init__(self, kind: str, base: type[T], package: str, group: str) -> None:
        self.kind = kind
        self.base = base
        self.package = package
        self.group = group

    @cached_property
    def _own(self) -> dict[str, type[T]]:
        package = importlib.import_module(self.package)
        found: dict[str, type[T]] = {}
        for info in pkgutil.iter_modules(package.__path__):
            module = importlib.import_module(f"{self.package}.{info.name}")
            for member in vars(module).values():
                if self._is_component(member) and member.__module__ == module.__name__:
                    found[member.name] = member
        return found

    @cached_property
    def _plugins(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def _is_component(self, thing: Any) -> bool:
        return (
            inspect.isclass(thing)
            and issubclass(thing, self.base)
            and not inspect.isabstract(thing)
            and hasattr(thing, "name")
        )

    def names(self) -> list[str]:
        """Every name that `load` takes, sorted; plugins are named without being imported."""
        return sorted({*self._own, *self._plugins})

    def kinds(self) -> Iterator[tuple[str, type[T]]]:
        """Every name with its class, sorted; plugins that cannot be loaded are left out."""
        for name in self.names():
            try:
                yield name, self.load(name)
            except BrokenPlugin:
                continue

    def origin(self, name: str) -> str:
        """The distribution a component comes from, e.g. "framechain"."""
        if name in self._own or (entry := self._plugins.get(name)) is None or entry.dist is None:
            return "framechain"
        return entry.dist.name

    def load(self, name: str) -> type[T]:
        """The class registered as `name`. Our own components win over plugins of the same name.

        Raises:
            UnknownName: there is none; the message suggests the nearest.
            BrokenPlugin: the entry point exists but does not lead to a component.
        """
        if name in self._own:
            return self._own[name]
        if name not in self._plugins:
            raise UnknownName(f"no {self.kind} is called '{name}'{nearest(name, self.names())}")
        entry = self._plugins[name]
        try:
            component = entry.load()
        except Exception as error:
            raise BrokenPlugin(
                f"{self.kind} '{name}' of {self.origin(name)} cannot be loaded ({error}); "
                f"update or uninstall that package"
            ) from error
        if not self._is_component(component):
            raise BrokenPlugin(
                f"{self.kind} '{name}' of {self.origin(name)}: {entry.value} is not a concrete "
                f"{self.base.__name__}; correct that package's entry point"
            )
        loaded: type[T] = component
        return loaded
