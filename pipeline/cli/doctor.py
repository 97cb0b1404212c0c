"""`framechain doctor`: what is installed, what works here, what is missing and the line that installs it."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Annotated

import typer
from rich.console import Console
from rich.text import Text

from pipeline.doctor import examine

_MARKS = {True: ("✓", "green"), False: ("✗", "red"), None: ("–", "dim")}


def doctor(as_json: Annotated[bool, typer.Option("--json", help="as JSON")] = False) -> int:
    """Try everything Framechain can use on this machine and say what works. Exits with 1 if something is broken."""
    console = Console(highlight=False, soft_wrap=True)
    findings = []
    topic = ""
    for finding in examine():
        findings.append(finding)
        if as_json:
            continue
        if finding.topic != topic:
            topic = finding.topic
            console.print(Text(topic.capitalize(), style="bold"))
        mark, style = _MARKS[finding.works]
        console.print(
            Text(f"  {mark} ", style=style) + Text(f"{finding.what:<28}", style="") + Text(finding.detail, style="dim")
        )
    if as_json:
        print(json.dumps([asdict(finding) for finding in findings], indent=2))
    return int(any(finding.works is False for finding in findings))
