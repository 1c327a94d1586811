"""Errors a user can meet."""


class FormatError(ValueError):
    """Input data, or a saved file, that is not what was expected.

    The message names the file and line (or the column and row), what came and what was expected.
    """
