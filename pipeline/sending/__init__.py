"""What sinks that send share: a thread, and messages that wait on disk."""
