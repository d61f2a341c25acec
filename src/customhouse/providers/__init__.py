"""The outside systems that one can connect: what each is, asks for, never asks for, and how it speaks. Facts and pure functions."""
