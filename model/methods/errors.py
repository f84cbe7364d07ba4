"""What can be wrong with the choice of a method; planning needs no torch to say so."""


class MethodError(ValueError):
    """An unknown method, hyper-parameters that it does not have, or a task that it cannot work on."""
