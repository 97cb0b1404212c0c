"""Being written."""


def eval_embedder() -> None:
    """Being written."""
