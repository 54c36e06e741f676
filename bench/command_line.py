"""``illmrec.command_line`` for floors that must not import illmrec."""

from illmrec.command_line import run

__all__ = ["run"]
