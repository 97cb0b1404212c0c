"""A real RTSP camera for the tests: GStreamer's server on 127.0.0.1. Run by the system's Python, which has `gi`.

python3 rtsp_server.py USER PASSWORD [PORT [CODEC]]   (prints its port; serves /live, endless, and /short, 50 frames)
"""

import sys

import gi

gi.require_version("Gst", "1.0")
gi.require_version("GstRtspServer", "1.0")
from gi.repository import GLib, Gst, GstRtspServer  # noqa: E402

CAMERA = (
    "( videotestsrc is-live=true pattern=ball num-buffers={} "
    "! video/x-raw,format=I420,width=320,height=240,framerate=25/1 ! {} name=pay0 pt=96 )"
)
CODECS = {
    "h264": "x264enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph264pay",
    "h265": "x265enc tune=zerolatency speed-preset=ultrafast key-int-max=10 ! rtph265pay",
    "jpeg": "jpegenc ! rtpjpegpay",
}


def main(user: str, password: str, port: str = "0", codec: str = "h264") -> None:
    Gst.init(None)
    server = GstRtspServer.RTSPServer()
    server.set_address("127.0.0.1")
    server.set_service(port)
    auth = GstRtspServer.RTSPAuth()
    token = GstRtspServer.RTSPToken()
    token.set_string("media.factory.role", "viewer")
    auth.add_basic(GstRtspServer.RTSPAuth.make_basic(user, password), token)
    server.set_auth(auth)
    for path, buffers in (("/live", -1), ("/short", 50)):
        factory = GstRtspServer.RTSPMediaFactory()
        factory.set_launch(CAMERA.format(buffers, CODECS[codec]))
        permissions = GstRtspServer.RTSPPermissions()
        permissions.add_permission_for_role("viewer", "media.factory.access", True)
        permissions.add_permission_for_role("viewer", "media.factory.construct", True)
        factory.set_permissions(permissions)
        server.get_mount_points().add_factory(path, factory)
    server.attach(None)
    print(server.get_bound_port(), flush=True)
    GLib.MainLoop().run()


main(*sys.argv[1:])
