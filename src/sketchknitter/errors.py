"""The one exception a person should read: what is wrong, where, and what to do about it."""


class UserError(Exception):
    """Bad input. Its message is one line that names the file, the position and the remedy.

    The command line prints it after ``error:`` and exits with status 2, without a traceback.
    """


class SettingError(UserError):
    """A setting that cannot be what it was given: ``SettingError("steps", "must be …, not 1")``.

    Its message names the setting as Python does (``batch_size must be …``); a command line names
    its own option instead (``--batch-size must be …``).

    Args:
        setting: name of the argument or field.
        problem: the rest of the sentence.
    """

    def __init__(self, setting: str, problem: str) -> None:
        super().__init__(f"{setting} {problem}")
        self.setting, self.problem = setting, problem
