"""Being written."""


def train_detector() -> None:
    """Being written."""
