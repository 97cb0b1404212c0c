"""What sinks that write files share: paths, parts, full disks, lines."""
