"""MIMIC-IV-ECG 1.0: record_list.csv and machine_measurements.csv, joined once.

Usage:
    table, refused = read_table(place, rate=500)      # place rooted where record_list.csv lies
"""

from __future__ import annotations

RECORDS = "record_list.csv"
MACHINE = "machine_measurements.csv"
TABLES = (RECORDS, MACHINE)
SUFFIXES = (".hea", ".dat")
