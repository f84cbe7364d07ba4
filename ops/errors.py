"""Errors of the compiled operators and their PyTorch formulations."""


class AttentionInputError(ValueError):
    """The tensors handed to multi-scale deformable attention do not fit together."""


class OperatorUnavailableError(RuntimeError):
    """``SEGUE_OPS=compiled`` was asked for, and there is no compiled library that serves."""
