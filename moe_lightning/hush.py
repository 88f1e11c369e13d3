"""Lines of Lightning that a user of these commands can do nothing about, kept off the terminal."""

import logging
import warnings

_WARNINGS = (
    r".*treespec, LeafSpec.*",  # a deprecation inside Lightning
    r".*is smaller than the logging interval.*",  # small corpora are welcome
    r".*in eval mode at the start of training.*",  # the frozen backbone is
    r".*there is no last checkpoint available.*",  # the first run with `--ckpt_path last`
    r".*does not have many workers.*",
    r".*predict returned None.*",  # the embeddings are collected by the module
    r".*Checkpoint directory .* exists and is not empty.*",  # a resumed run's does
)
_LOG_LINES = ("\N{ELECTRIC LIGHT BULB} Tip", "TPU available", "Loading `train_dataloader`")


def hush() -> None:
    """Drop these lines; every other warning stays."""
    for message in _WARNINGS:
        warnings.filterwarnings("ignore", message=message)
    for name in ("lightning.pytorch", "lightning.pytorch.utilities.rank_zero", "lightning.fabric"):
        logger = logging.getLogger(name)
        logger.addFilter(lambda record: not record.getMessage().startswith(_LOG_LINES))
        for handler in logger.handlers:
            handler.addFilter(lambda record: not record.getMessage().startswith(_LOG_LINES))
