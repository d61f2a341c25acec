"""Customhouse: one self-hosted service through which every integration of a product passes."""

__version__ = "0.1.0"
