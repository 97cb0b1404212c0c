"""Being written."""


def eval_detector() -> None:
    """Being written."""
