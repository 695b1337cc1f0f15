"""The program `visionflows`: it handles signals before it imports its commands."""

from visionflows.cli.program import run


def main() -> None:
    """Run the command that the arguments name; ends the process with its exit status."""

    def command() -> None:
        from visionflows.cli.main import run_command

        run_command()

    run(command)


if __name__ == "__main__":
    main()
