"""`python -m hone.demo FOLDER` writes the demo corpus, its queries and its judgements as a BEIR folder."""

import argparse
from pathlib import Path

from hone.demo import write_demo


def main() -> None:
    """Write the folder named on the command line and say so in one line."""
    parser = argparse.ArgumentParser(prog="python -m hone.demo", description=__doc__)
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="made if it is not there")
    folder: Path = parser.parse_args().folder
    try:
        count = write_demo(folder)
    except OSError as error:
        parser.error(f"cannot write to {folder}: {error.strerror}")
    print(f"{folder}: {count} documents of the Python standard library, with queries and judgements")


if __name__ == "__main__":
    main()
