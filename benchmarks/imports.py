"""How long `import pipeline` and `import trackers` take, beside `import numpy`, each in a fresh interpreter.

python -m benchmarks.imports
"""

from __future__ import annotations

import statistics
import subprocess
import sys

NAMES = ("numpy", "trackers", "pipeline", "pipeline.engine", "pipeline.cli")
HEAVY = {"torch", "onnxruntime", "openvino", "ultralytics", "easyocr", "rapidocr", "av"}


def measure(name: str) -> tuple[float, set[str]]:
    """Seconds to import a module in a new interpreter, and which heavy packages came along."""
    script = (
        f"import sys, time; start = time.perf_counter(); import {name}; "
        "print(time.perf_counter() - start, *{module.split('.')[0] for module in sys.modules})"
    )
    seconds, *modules = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    ).stdout.split()
    return float(seconds), HEAVY & set(modules)


def main() -> None:
    """Measure in turns and print medians."""
    times: dict[str, list[float]] = {name: [] for name in NAMES}
    heavy: dict[str, set[str]] = {}
    for _ in range(7):
        for name in NAMES:
            seconds, heavy[name] = measure(name)
            times[name].append(seconds)
    for name in NAMES:
        along = f", brings {', '.join(sorted(heavy[name]))}" if heavy[name] else ""
        print(f"import {name:<16} {statistics.median(times[name]):.3f} s{along}")


if __name__ == "__main__":
    main()
