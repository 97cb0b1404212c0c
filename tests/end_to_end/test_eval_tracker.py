"""`framechain eval tracker`: the published figures where there are some, and clear words where it cannot be."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from pipeline.cli import main
from trackers import mot_format
from trackers.evaluate import evaluate
from trackers.sequences import read_sequence, run, sequence_folders


def ended(*arguments: str | Path) -> int:
    with pytest.raises(SystemExit) as done:
        main(["eval", "tracker", *map(str, arguments)])
    return int(done.value.code or 0)


def complaint(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> str:
    assert ended(*arguments) == 2
    (line,) = [line for line in capsys.readouterr().err.strip().splitlines() if "fastest" not in line]
    return line


def test_sort_has_its_published_figures_on_tud_campus(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """SORT on the detections of its authors: MOTA 62.7 and 6 switches (table of their repository).

    Their filter's noise is a frame's, whatever its length; ours is a second's, and theirs at 30 frames a second.
    """
    pytest.importorskip("trackeval")
    folder = tmp_path / "TUD-Campus"
    shutil.copytree(data / "mot" / "MOT15" / "TUD-Campus", folder)
    shutil.copy(data / "mot" / "SORT-detections" / "TUD-Campus.txt", folder / "det" / "det.txt")
    info = folder / "seqinfo.ini"
    info.write_text(info.read_text().replace("frameRate=25", "frameRate=30"))
    sort = "sort:max_coast=0.034,number_at_birth=true"
    code = ended(folder, "--tracker", sort, "--json", tmp_path / "out.json", "--plot", tmp_path / "out.png")
    assert code == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "out.json").read_text())[sort]["TUD-Campus"]
    assert round(100 * figures["MOTA"], 1) == pytest.approx(62.7, abs=0.05)
    assert figures["IDSW"] == 6
    assert (tmp_path / "out.png").read_bytes().startswith(b"\x89PNG")
    shown = capsys.readouterr().out
    assert "62.7" in shown
    assert "HOTA" in shown


def test_several_trackers_and_sequences_are_compared(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("trackeval")
    arguments = ("--tracker", "tether", "--tracker", "bytetrack", "--measured", "--json", tmp_path / "out.json")
    assert ended(data / "mot" / "MOT15", *arguments) == 0, capsys.readouterr().err
    figures = json.loads((tmp_path / "out.json").read_text())
    assert set(figures) == {"tether", "bytetrack"}
    assert set(figures["tether"]) == {"PETS09-S2L1", "TUD-Campus", "TUD-Stadtmitte", "all"}
    assert figures["tether"]["all"]["IDF1"] > figures["bytetrack"]["all"]["IDF1"]


def test_a_video_is_detected_on(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("trackeval")
    video = f"{data / 'video' / 'TUD-Campus.mp4'}={data / 'mot' / 'MOT15' / 'TUD-Campus'}"
    assert ended(video, "--json", tmp_path / "out.json", "--no-embed", "--measured") == 0, capsys.readouterr().err
    assert json.loads((tmp_path / "out.json").read_text())["tether"]["TUD-Campus"]["MOTA"] > 0.4


def test_what_cannot_be_is_told_in_one_line(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = data / "mot" / "MOT15" / "TUD-Campus"
    assert "is no MOTChallenge sequence" in complaint(capsys, tmp_path)
    assert "did you mean 'sort'" in complaint(capsys, folder, "--tracker", "sorts")
    assert "must be at least 0" in complaint(capsys, folder, "--tracker", "sort:min_hits=-1")
    assert "is no option=value" in complaint(capsys, folder, "--tracker", "sort:min_hits")
    assert "given more than once" in complaint(capsys, folder, folder)
    short = f"{data / 'video' / 'TUD-Campus.mp4'}={data / 'mot' / 'MOT15' / 'PETS09-S2L1'}"
    assert "give the video it was made from" in complaint(capsys, short, "--no-embed")
    broken = tmp_path / "broken"
    shutil.copytree(folder, broken)
    (broken / "det" / "det.txt").write_text("1,-1,a,b\n")
    assert "det.txt, line 1" in complaint(capsys, broken)
    (broken / "det" / "det.txt").unlink()
    assert "det.txt: No such file" in complaint(capsys, broken)


def test_the_default_holds_identities_on_public_detections(data: Path) -> None:
    """The four MOT17 sequences there are, with the FRCNN detections and no picture; the best rival's figures there are
    HOTA 41.4, IDF1 48.6, 241 switches (not all of one rival)."""
    pytest.importorskip("trackeval")
    from trackers import create

    results: dict[str, tuple[mot_format.MotRows, mot_format.MotRows]] = {}
    for folder in sequence_folders(data / "mot" / "MOT17"):
        sequence = read_sequence(folder)
        results[sequence.name] = (sequence.truth, run(create(), sequence, hidden=True))
    total, each = evaluate(results)
    assert len(each) == 4
    assert total.HOTA >= 0.425
    assert total.IDF1 >= 0.50
    assert total.IDSW <= 240
