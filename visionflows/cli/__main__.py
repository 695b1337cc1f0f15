"""The program itself: it listens for signals before it imports its commands.

python -m visionflows.cli --help
"""

from visionflows.cli.program import run


def main() -> None:
    """Run the command that the words after `visionflows` name."""
    run(_commands)


def _commands() -> None:
    from visionflows.cli.main import commands

    commands()


if __name__ == "__main__":
    main()
