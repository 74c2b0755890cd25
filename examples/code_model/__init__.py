"""The recipe of the small code model that `examples/swe_small.yaml` trains.

Run it from `examples/` as `python -m code_model.make --output FOLDER`; it needs fifty minutes of a CPU core.
"""
