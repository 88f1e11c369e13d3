"""Declarations for settings of LightningCLI: which ones are knobs.

A knob affects speed, memory or logging only: another value leaves a finished stage valid.
"""

import inspect
from collections.abc import Iterator
from typing import Annotated, TypeVar

T = TypeVar("T")
KNOB = "knob"
Knob = Annotated[T, KNOB]
"""Type of a knob among the arguments of a LightningModule or LightningDataModule: ``batch_size: Knob[int] = 4``."""
LIGHTNING_KNOBS = frozenset(
    {
        *("trainer.accelerator", "trainer.devices", "trainer.num_nodes", "trainer.strategy", "trainer.precision"),
        *("trainer.accumulate_grad_batches", "trainer.benchmark", "trainer.deterministic", "trainer.inference_mode"),
        *("trainer.callbacks", "trainer.logger", "trainer.log_every_n_steps", "trainer.profiler"),
        *("trainer.enable_autolog_hparams", "trainer.enable_model_summary", "trainer.enable_progress_bar"),
        *("trainer.detect_anomaly", "trainer.model_registry", "trainer.num_sanity_val_steps"),
        "trainer.max_time",  # ends a training as SIGTERM does
        "weights_only",
        "resume",  # times of `last.ckpt`
        *("checkpoint.verbose", "early_stopping.verbose", "early_stopping.log_rank_zero_only"),
    }
)
"""Knobs among Lightning's own settings, by dotted name, with all parts of these."""
LEARNING_CALLBACKS = {
    "BackboneFinetuning",
    "EMAWeightAveraging",
    "EarlyStopping",
    "GradientAccumulationScheduler",
    "LearningRateFinder",
    "ModelPruning",
    "StochasticWeightAveraging",
    "WeightAveraging",
}
"""Lightning callbacks that change the trained weights; all others observe and do not affect results."""
FULL_TRAINING = {
    "fast_dev_run": (None, False, 0.0),
    "limit_predict_batches": (None, 1.0),
    "limit_test_batches": (None, 1.0),
    "limit_train_batches": (None, 1.0),
    "limit_val_batches": (None, 1.0),
    "overfit_batches": (None, 0.0),
}
"""Trainer settings that can shorten a training, with the values for a full training."""


def declared_knobs(cls: type) -> Iterator[str]:
    """Arguments of a class and its bases that are declared as a `Knob`."""
    for base in cls.__mro__:
        if "__init__" in vars(base):
            for name, one in inspect.signature(base).parameters.items():
                if KNOB in getattr(one.annotation, "__metadata__", ()):
                    yield name
