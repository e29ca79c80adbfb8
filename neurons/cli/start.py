"""Where the command `neuronscope` begins: it sees that its packages are its own before it imports them."""

from __future__ import annotations

from neurons.cli import names


def main() -> None:
    """Run the command line; never returns."""
    names.check()
    from neurons.cli.main import main as run

    run()


if __name__ == "__main__":
    main()
