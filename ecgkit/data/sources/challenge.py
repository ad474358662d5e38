"""Sources in the form of the PhysioNet challenges 2020 and 2021: one header per record, no table.

Usage:
    table, refused = read_table(place, rate=500)
"""

from __future__ import annotations

TABLES = ()
SUFFIXES = (".hea", ".mat", ".dat")
