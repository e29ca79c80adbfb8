"""Every error Neuronscope raises on purpose. Each message names what is wrong and how to mend it.

NeuronscopeError
├── InvalidInput (ValueError)        a value the user gave; `field` says where it was entered
│   ├── InvalidSteer                 a steer that cannot be applied to this model
│   └── InvalidFile                  an uploaded or named file that cannot be read
├── NotFound (LookupError)           a trace, concept, atlas... that does not exist
├── ModelError (RuntimeError)        a model that cannot be fetched, read or run
│   └── UnsupportedModel             its neurons were not found; says what was looked for
├── StoreError (OSError)             a trace or atlas on disk that is damaged or cannot be written
├── EndpointError (RuntimeError)     a language-model endpoint that is down or answers junk
└── Cancelled                        the user stopped a job; what was done so far is kept
"""

from __future__ import annotations


class NeuronscopeError(Exception):
    """Base of every error raised on purpose."""


class InvalidInput(NeuronscopeError, ValueError):
    """A value the user gave is not usable. `field` is the name of the control or option it came from."""

    def __init__(self, message: str, *, field: str | None = None) -> None:
        super().__init__(message)
        self.field = field


class InvalidSteer(InvalidInput):
    """A steer names neurons, strengths or tokens that this model or run does not have."""


class InvalidFile(InvalidInput):
    """A file is empty, binary, cut off, in the wrong encoding or of the wrong shape."""


class NotFound(NeuronscopeError, LookupError):
    """Something asked for by name or id does not exist."""


class ModelError(NeuronscopeError, RuntimeError):
    """A model cannot be fetched, read or run."""


class UnsupportedModel(ModelError):
    """The model loads, but its MLP neurons were not found."""


class StoreError(NeuronscopeError, OSError):
    """Data on disk is damaged, or cannot be written."""


class EndpointError(NeuronscopeError, RuntimeError):
    """A language-model endpoint is down, too slow, or answers what cannot be used."""


class Cancelled(NeuronscopeError):
    """The user stopped the work. What was finished before is kept."""


UNFORESEEN = (
    NeuronscopeError, OSError, ValueError, ArithmeticError, LookupError, TypeError, AttributeError, RuntimeError, AssertionError,
    MemoryError,
)  # fmt: skip
"""What a library may raise when it reads what a stranger wrote: whoever reads such a thing turns these into an error of ours."""
