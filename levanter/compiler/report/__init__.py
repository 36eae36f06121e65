"""What the commands show to people."""

from levanter.compiler.report.compile_tables import changed_tables, compile_tables
from passes.report.units import format_bytes, format_change, format_percent, format_seconds

__all__ = ["changed_tables", "compile_tables", "format_bytes", "format_change", "format_percent", "format_seconds"]
