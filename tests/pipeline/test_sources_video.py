"""Video files: exact frames and times, damage survived and counted, one clear line for what is no video."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from clips import Image, damaged, erase, flip_bits, scenes, scramble, without_threads, write_clip

from pipeline.errors import UsageError
from pipeline.frame import Frame
from pipeline.source import open_source
from pipeline.sources.video import VideoFile

FRAME_COUNTS = {
    "vtest.avi": 795,
    "MOT17-09.mp4": 525,
    "TUD-Campus.mp4": 71,
    "TUD-Stadtmitte.mp4": 179,
    "car-detection.mp4": 377,
    "one-by-one-person-detection.mp4": 1394,
}


def frames_of(path: Path, **options: object) -> list[Frame]:
    with open_source(str(path), **{"decoder": "software", **options}) as source:  # hardware tells less of damage
        assert isinstance(source, VideoFile)
        return list(source)


@pytest.mark.parametrize(("file", "count"), FRAME_COUNTS.items())
def test_real_videos_have_exactly_their_frames(data: Path, file: str, count: int) -> None:
    source = VideoFile(uri=str(data / "video" / file))
    info = source.open()
    # "every" keeps this fast: pictures are decoded and counted but not converted
    assert info.frame_count == count
    source.every = 10_000
    frames = list(source)
    source.close()
    assert len(frames) == 1
    assert source.dropped == {"every": count - 1}


@pytest.mark.parametrize("file", ["vtest.avi", "TUD-Campus.mp4"])
def test_pixels_equal_those_of_opencv(data: Path, file: str) -> None:
    capture = cv2.VideoCapture(str(data / "video" / file))
    for frame in frames_of(data / "video" / file, max_frames=80):
        _, expected = capture.read()
        np.testing.assert_array_equal(frame.image, expected)
        assert frame.image.flags.c_contiguous
    capture.release()


def test_info_and_times(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a clip, größer.mp4", frames=30)
    source = VideoFile(uri=str(path))
    info = source.open()
    frames = list(source)
    source.close()
    assert (info.id, info.width, info.height, info.fps, info.frame_count, info.live) == (
        "a clip, größer", 160, 120, 25, 30, False,
    )  # fmt: skip
    assert [frame.index for frame in frames] == list(range(30))
    assert [frame.timestamp for frame in frames] == [index / 25 for index in range(30)]
    assert {frame.source for frame in frames} == {info.id}
    assert frames[-1].captured_at - frames[0].captured_at == pytest.approx(29 / 25)
    assert frames[-1].captured_at < path.stat().st_mtime + 1


def test_recording_time_comes_from_the_file_itself(tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    with av.open(str(path), "w") as container:
        container.metadata["creation_time"] = "2024-05-06T07:08:09Z"
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for scene in scenes(3):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(scene, format="bgr24")))
        container.mux(stream.encode())
    assert frames_of(path)[0].captured_at == 1714979289.0


def test_metadata_may_have_any_encoding(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mkv", frames=3)
    path.write_bytes(path.read_bytes().replace(b"Lavf", b"L\xe4vf"))
    assert len(frames_of(path)) == 3


def test_variable_frame_rate_is_kept(tmp_path: Path) -> None:
    times = [0, 40, 80, 500, 510, 520, 1500, 1533]
    path = write_clip(tmp_path / "vfr.mkv", frames=len(times), times=times)
    assert [frame.timestamp for frame in frames_of(path)] == [ms / 1000 for ms in times]


@pytest.mark.parametrize("name", ["b.avi", "b.h264"])
def test_missing_times_are_filled_from_the_rate(tmp_path: Path, name: str) -> None:
    frames = frames_of(write_clip(tmp_path / name, frames=20))
    times = [frame.timestamp for frame in frames]
    assert len(frames) == 20
    assert times == [index / 25 for index in range(20)]


def test_every_and_max_frames(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "a.mp4", frames=30)
    source = VideoFile(uri=str(path), every=7, max_frames=3)
    info = source.open()
    frames = list(source)
    source.close()
    assert (info.frame_count, info.fps) == (3, 25 / 7)
    assert [frame.index for frame in frames] == [0, 7, 14]
    assert source.dropped == {"every": 12}


CORNERS = np.zeros((64, 96, 3), np.uint8)
CORNERS[:24, :32], CORNERS[:24, 64:], CORNERS[40:, :32] = (0, 0, 255), (0, 255, 0), (255, 0, 0)


@pytest.mark.skipif(not hasattr(av.VideoStream, "set_display_rotation"), reason="this PyAV writes no rotation")
@pytest.mark.parametrize("degrees", [0, 90, 180, -90])
@pytest.mark.parametrize("hflip", [False, True])
@pytest.mark.parametrize("vflip", [False, True])
def test_rotation_is_applied(tmp_path: Path, degrees: int, hflip: bool, vflip: bool) -> None:
    path = write_clip(tmp_path / "phone.mp4", frames=2, image=CORNERS, rotation=(degrees, hflip, vflip))
    expected = np.rot90(CORNERS, degrees // 90)
    expected = expected[:, ::-1] if hflip else expected
    expected = expected[::-1] if vflip else expected
    source = VideoFile(uri=str(path))
    info = source.open()
    frame = source.read()
    source.close()
    assert frame is not None
    assert (info.height, info.width) == expected.shape[:2]
    assert frame.image.flags.c_contiguous
    assert np.abs(frame.image.astype(int) - expected).mean() < 8


def test_colour_matrix_and_range_of_the_file_are_respected(tmp_path: Path) -> None:
    smpte170m, bt709 = 6, 1
    for matrix, full in ((smpte170m, False), (bt709, False), (bt709, True)):
        path = tmp_path / "colours.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, options={"qp": "0"})
            stream.width, stream.height, stream.pix_fmt = 64, 64, "yuv420p"
            picture = av.VideoFrame(64, 64, "yuv420p")
            for tagged in (stream.codec_context, picture):
                tagged.colorspace, tagged.color_range = matrix, 2 if full else 1
            for plane, value in zip(picture.planes, (100, 90, 200), strict=True):
                plane.update(bytes([value]) * plane.buffer_size)
            container.mux(stream.encode(picture))
            container.mux(stream.encode())
        red, blue = (0.299, 0.114) if matrix == smpte170m else (0.2126, 0.0722)
        y = 100 / 255 if full else (100 - 16) / 219
        u, v = ((value - 128) / (255 if full else 224) for value in (90, 200))
        r, b = y + 2 * (1 - red) * v, y + 2 * (1 - blue) * u
        g = (y - red * r - blue * b) / (1 - red - blue)
        expected = np.clip(np.array([b, g, r]) * 255, 0, 255)
        np.testing.assert_allclose(frames_of(path)[0].image[32, 32], expected, atol=3)


# --- damage -------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clips")
    write_clip(path / "h264.mp4")
    write_clip(path / "h264.avi", options={"bf": "0"})
    write_clip(path / "h264.ts")
    write_clip(path / "mpeg4.avi", "mpeg4")
    write_clip(path / "mjpeg.avi", "mjpeg")
    write_clip(path / "faststart.mp4", container_options={"movflags": "faststart"})
    return path


HURT = [5, 30, 57, 59]
"""Packets: the middle of the first and second group of pictures; the end of the third, where threads lose frames."""


def check_undamaged_groups(frames: Sequence[Frame], original: Sequence[Image]) -> None:
    """Up to the first damage, and again from a keyframe after it, everything is as if nothing had happened."""
    assert [frame.timestamp for frame in frames] == [frame.index / 25 for frame in frames]
    untouched = [frame for frame in frames if frame.index < 3 or 20 <= frame.index < 27 or 40 <= frame.index < 54]
    assert len(untouched) == 24
    for frame in untouched:
        np.testing.assert_array_equal(frame.image, original[frame.index])


@pytest.mark.parametrize("clip", ["h264.mp4", "mpeg4.avi", "mjpeg.avi"])
def test_every_erased_picture_is_counted(folder: Path, clip: str) -> None:
    path = damaged(folder / clip, HURT, erase)
    source = VideoFile(uri=str(path))
    source.open()
    frames = list(source)
    source.close()
    assert len(frames) == 60 - len(HURT)
    assert source.dropped == {"corrupt": len(HURT)}
    check_undamaged_groups(frames, [image for _, image in without_threads(folder / clip)])


@pytest.mark.parametrize("clip", ["h264.mp4", "h264.avi", "h264.ts", "mpeg4.avi"])
@pytest.mark.parametrize("hurt", [scramble, flip_bits, erase])
def test_damage_gives_the_same_frames_on_any_number_of_cores(folder: Path, clip: str, hurt) -> None:  # type: ignore[no-untyped-def]
    if clip == "h264.ts":  # its packets are spread over transport packets: hit the bytes of the file
        path = folder / "damaged-h264.ts"
        content = bytearray((folder / clip).read_bytes())
        hurt(content, len(content) // 2, len(content) // 2 + 400)
        path.write_bytes(content)
    else:
        path = damaged(folder / clip, HURT, hurt)
    expected = [image for bad, image in without_threads(path) if not bad]
    for _ in range(3):
        source = VideoFile(uri=str(path))
        source.open()
        frames = list(source)
        source.close()
        assert len(frames) == len(expected)
        assert source.dropped["corrupt"] >= 1
        if clip != "h264.ts":  # where a packet's header may be lost, and the packet with it
            assert len(frames) + source.dropped["corrupt"] == 60
        for frame, image in zip(frames, expected, strict=True):
            np.testing.assert_array_equal(frame.image, image)


def test_damaged_jpeg_pictures_are_found(folder: Path) -> None:
    source = VideoFile(uri=str(damaged(folder / "mjpeg.avi", HURT, scramble)))
    source.open()
    indices = [frame.index for frame in source]
    source.close()
    assert source.dropped == {"corrupt": len(HURT)}
    assert indices == [index for index in range(60) if index not in HURT]


@pytest.mark.parametrize("clip", ["faststart.mp4", "h264.avi", "mpeg4.avi", "mjpeg.avi"])
def test_a_truncated_file_is_read_to_its_end(folder: Path, clip: str) -> None:
    path = folder / f"cut-{clip}"
    content = (folder / clip).read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    source = VideoFile(uri=str(path))
    source.open()
    frames = list(source)
    source.close()
    original = [image for _, image in without_threads(folder / clip)]
    assert 20 <= len(frames) < 50
    for frame, image in zip(frames, original, strict=False):
        np.testing.assert_array_equal(frame.image, image)
    assert source.dropped["corrupt"] <= 1
    assert len(frames) + source.dropped["corrupt"] + source.dropped["missing"] == 60


@pytest.mark.parametrize("options", [{}, {"x264-params": "interlaced=1"}])
@pytest.mark.parametrize("name", ["a.ts", "a.mkv", "a.avi", "a.mov"])
def test_sound_files_report_no_damage(tmp_path: Path, name: str, options: dict[str, str]) -> None:
    source = VideoFile(uri=str(write_clip(tmp_path / name, frames=25, options=options)))
    source.open()
    assert len(list(source)) == 25
    source.close()
    assert not source.dropped


def test_hidden_pictures_of_vp8_are_no_damage(tmp_path: Path) -> None:
    options = {"auto-alt-ref": "1", "lag-in-frames": "10", "arnr-maxframes": "5", "cpu-used": "8"}
    source = VideoFile(uri=str(write_clip(tmp_path / "a.webm", "libvpx", 40, options=options)))
    source.open()
    assert [frame.index for frame in source] == list(range(40))
    source.close()
    assert not source.dropped


# --- mistakes -----------------------------------------------------------------------------------------------


def check_refused(uri: str, *words: str) -> None:
    with pytest.raises(UsageError) as caught:
        open_source(uri)
    message = str(caught.value)
    assert "\n" not in message
    for word in words:
        assert word in message


def test_a_missing_file_suggests_a_similar_one(tmp_path: Path) -> None:
    (tmp_path / "entrance.mp4").touch()
    check_refused(str(tmp_path / "entrence.mp4"), "does not exist", "did you mean", "entrance.mp4")
    check_refused(str(tmp_path / "nowhere" / "a.mp4"), "nor does the folder")


def test_a_camera_without_its_scheme_is_told_from_a_missing_file() -> None:
    for address in ("10.0.0.7/live", "10.0.0.7:554", "gate.example.com:8554/live", "localhost:8554/live"):
        check_refused(
            address, f"does not exist; the address of a camera begins with its scheme, such as rtsp://{address}"
        )
    check_refused("rtsp:/10.0.0.7/live", "such as rtsp://10.0.0.7/live")
    for path in ("clips.2026/a.mp4", "http/a.mp4", "udp/a.mp4"):
        check_refused(path, "nor does the folder")


def test_an_mp4_without_its_index_says_how_to_repair_it(folder: Path) -> None:
    path = folder / "no-index.mp4"
    content = (folder / "h264.mp4").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    check_refused(str(path), "index is missing", "untrunc")


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "empty.mp4").touch()
    check_refused(str(tmp_path / "empty.mp4"), "empty")
    (tmp_path / "text.mp4").write_text("not a video\n" * 100)
    check_refused(str(tmp_path / "text.mp4"), "not a video")
    with av.open(str(tmp_path / "sound.m4a"), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        sound = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        sound.sample_rate = 44100
        for packet in [*stream.encode(sound), *stream.encode()]:
            container.mux(packet)
    check_refused(str(tmp_path / "sound.m4a"), "holds no video, only audio")


def test_all_pictures_damaged(folder: Path) -> None:
    check_refused(str(damaged(folder / "h264.mp4", range(60), erase)), "no picture that can be decoded")


@pytest.mark.skipif(os.name != "posix", reason="permission bits")
def test_an_unreadable_file(tmp_path: Path, folder: Path) -> None:
    path = tmp_path / "secret.mp4"
    shutil.copy(folder / "h264.mp4", path)
    path.chmod(0)
    root = os.access(path, os.R_OK)
    os.seteuid(65534) if root else None  # root reads everything
    try:
        check_refused(str(path), "may not be read")
    finally:
        os.seteuid(0) if root else None


def test_file_addresses_and_colons(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "12:30 Uhr.mp4", frames=3)
    assert len(frames_of(path)) == 3
    with open_source(path.as_uri()) as source:
        assert len(list(source)) == 3
