"""Component: what stages, sources and sinks share. Its fields are its options, declared once."""

from __future__ import annotations

from typing import ClassVar

from pydantic import BaseModel, ConfigDict


class Component(BaseModel):
    """A part of a chain whose pydantic fields are its options.

    One declaration of a field gives the YAML key, the keyword of the constructor, the check and the
    documentation (`framechain stages` prints `Field(description=...)`). State goes into private attributes
    (leading underscore).
    """

    model_config = ConfigDict(
        extra="forbid", arbitrary_types_allowed=True, protected_namespaces=(), allow_inf_nan=False
    )

    name: ClassVar[str]
    """What it is called in YAML, on the command line, in metrics and in messages."""
