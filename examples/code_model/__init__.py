"""The recipe of the base model of code, `tiny_code`: functions of the standard library with one small edit to undo."""
