"""State of the current forward pass that layers read from outside of their arguments."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from typing import Any, NamedTuple

from torch import Tensor


class PassValues(NamedTuple):
    """Values for one forward pass."""

    mix: Any = None
    """Expert weights of each row, a `lora.Mix`; None runs the frozen backbone alone."""
    cross_mask_B11T: Tensor | None = None
    """True at encoder frames open to the decoder's cross-attention; None opens all."""


class PassState:
    """The one place for ambient state of a speech model; all its layers share it.

    The layers are those of transformers. Their forward has no argument for the experts' weights, and the decoder has
    none for a cross-attention mask. So a pass sets both here for its duration, and each layer reads them here. Outside
    of a pass both are None: the model is the frozen backbone, as transformers made it.
    """

    def __init__(self) -> None:
        self.now = PassValues()

    @contextmanager
    def holding(self, **values: Any) -> Iterator[None]:
        """Context of a pass with these values; the others stay."""
        before, self.now = self.now, self.now._replace(**values)
        try:
            yield
        finally:
            self.now = before

    def kept(self) -> Callable[[], AbstractContextManager[None]]:
        """Factory of a context with the present values: a layer runs again for its gradient after the pass."""
        return partial(self.holding, **self.now._asdict())
