"""Being written."""


def train_embedder() -> None:
    """Being written."""
