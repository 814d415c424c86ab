"""The one exception a person should read: what is wrong, where, and what to do about it."""


class UserError(Exception):
    """Bad input. Its message is one line that names the file, the position and the remedy.

    The command line prints it after ``error:`` and exits with status 2, without a traceback.
    """
