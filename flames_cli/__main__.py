"""`flames`, and `python -m flames_cli`."""

from flames_cli.cli.app import app


def main() -> None:
    """Run the command line."""
    app()


if __name__ == "__main__":
    main()
