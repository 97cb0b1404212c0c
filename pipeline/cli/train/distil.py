"""Being written."""


def distil() -> None:
    """Being written."""
