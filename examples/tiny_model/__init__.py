"""The recipe of the tiny base model that the quick examples and the tests train.

Run it from `examples/` as `python -m tiny_model.make --output FOLDER`; it needs ten minutes of two idle CPU cores.
"""
