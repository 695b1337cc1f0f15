"""The program `visionflows`: it handles signals before it imports its commands."""

import pkgutil

from visionflows.cli.program import run


def main() -> None:
    """Run the command that the arguments name; ends the process with its exit status."""
    run(lambda: pkgutil.resolve_name("visionflows.cli.main:run_command")())


if __name__ == "__main__":
    main()
