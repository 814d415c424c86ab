"""``python -m bench``: every bench in turn; tables on stdout, figures in runs/bench/*.json.

Each bench is a script of its own (``python bench/official.py --help``) and compares within one run,
so its ratios hold on a busy machine too; the seconds beside them do not. ``overfit.py`` is left
out: it trains every rival for an hour and a half and measures no speed.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
OUT = HERE.parent / "runs" / "bench"


def main() -> None:
    OUT.mkdir(parents=True, exist_ok=True)
    failed = []
    for script in sorted(HERE.glob("[a-z]*.py")):
        if script.stem == "overfit":
            continue
        print(f"\n== {script.stem}", flush=True)
        command = [sys.executable, str(script), "--json", str(OUT / f"{script.stem}.json")]
        if subprocess.run(command, check=False).returncode:
            failed.append(script.stem)
    print(f"\nfigures: {OUT}")
    if failed:
        sys.exit(f"did not finish: {', '.join(failed)}")


if __name__ == "__main__":
    main()
