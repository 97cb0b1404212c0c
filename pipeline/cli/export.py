"""Being written."""


def export() -> None:
    """Being written."""
