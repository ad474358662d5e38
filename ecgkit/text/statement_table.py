"""The table of SCP statements, whichever way scp_statements.csv was read, and codes it lacks.

Source: PTB-XL 1.0.3; its first column has no name, and the published notebook asks for "key".

Usage:

    statements = statement_table(pd.read_csv("scp_statements.csv"))     # indexed by code
    unknown_codes(cohort.table["scp_codes"], statements)                # {"XYZ": 3}
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

import pandas as pd

from ecgkit.types import DataError


def statement_table(table: pd.DataFrame) -> pd.DataFrame:
    """The statements indexed by code, whichever way scp_statements.csv was read.

    Its first column has no name, so a plain read_csv calls it "Unnamed: 0"; the published code asks
    for "key". Raises DataError where no column holds codes, one stands twice, or words are missing.
    """
    if pd.api.types.is_numeric_dtype(table.index):
        first = next((c for c in ("key", "code", "Unnamed: 0", "") if c in table), None)
        if first is None:
            raise DataError(
                "The statement table has no column of SCP codes; read scp_statements.csv with "
                "index_col=0 (its first column has no name)."
            )
        table = table.set_index(first)
    if table.index.has_duplicates:
        twice = table.index[table.index.duplicated()][0]
        raise DataError(f"SCP code {twice!r} stands twice in the statement table; keep one line.")
    if "description" not in table:
        raise DataError("The statement table lacks `description`; give PTB-XL's statements.")
    return table


def unknown_codes(scp_codes: Iterable[Mapping[str, float]], statements: pd.DataFrame) -> dict:
    """Code -> in how many reports it stands, for codes that the statement table does not have."""
    known = statement_table(statements).index
    counts = Counter(code for codes in scp_codes for code in codes if code not in known)
    return dict(counts.most_common())
