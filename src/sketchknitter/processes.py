"""The processes that torchrun starts: which of them this is, and that it ends with the others."""

from __future__ import annotations

import os
import threading
import time


def place() -> tuple[int, int]:
    """(rank, world size) of this process in its group; (0, 1) without one."""
    import torch  # here, for commands that have no need of it start faster

    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank(), torch.distributed.get_world_size()
    return 0, 1


def end_with_launcher() -> None:
    """End this process, at once, when the torchrun that started it is killed.

    torchrun gives its processes sessions of their own, so whatever kills it, and the shell's whole
    job with it, leaves them at work: nobody sees them, and their folder stays locked. A process
    that anything else started is left alone: its shell may be closed.
    """
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return
    launcher = os.getppid()

    def watch() -> None:
        while os.getppid() == launcher:
            time.sleep(0.2)
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()
