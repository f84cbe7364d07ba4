"""Errors of the compiled operators and their PyTorch formulations."""


class AttentionInputError(ValueError):
    """The tensors passed to multi-scale deformable attention do not fit together."""


class OperatorUnavailableError(RuntimeError):
    """``SEGUE_OPS=compiled`` is set, but there is no suitable compiled library."""
