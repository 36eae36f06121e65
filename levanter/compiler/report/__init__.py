"""What the commands show to people."""

from levanter.compiler.report.compile_tables import compile_tables
from passes.report.units import format_bytes, format_change, format_percent, format_seconds

__all__ = ["compile_tables", "format_bytes", "format_change", "format_percent", "format_seconds"]
