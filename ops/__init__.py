"""Operators with a compiled form and a PyTorch formulation: ``ops.ms_deform_attn``."""

from ops.attention import ms_deform_attn

__all__ = ["ms_deform_attn"]
