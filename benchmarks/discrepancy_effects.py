"""What a disagreement between a paper and its published code is worth, where one minute can say it.

One function per row of the discrepancy ledger (`ecgkit.reports.discrepancies`), named after its id;
it returns the words that stand there as the row's effect, number included. Each states what it
stands on: arithmetic, the real subset (shared folder), or the simulated cohort of seed 7, on which
the kit's settings were chosen ("development cohort"; no patient of the default cohort is touched).
Rows that would take a training of minutes have no function here.
The functions stand by system in `discrepancy_ecgqa.py` and so on, what they share in
`discrepancy_data.py`.

Usage:

    python benchmarks/discrepancy_effects.py                        # all: a minute and a half
    python benchmarks/discrepancy_effects.py few_bleu ckpt_eval     # these alone

Prints `id: words` for each; the last line is JSON {id: words}.
"""

from __future__ import annotations

import argparse
import json

import discrepancy_ecgqa
import discrepancy_esi
import discrepancy_fewshot
import discrepancy_risk
import torch

from ecgkit.types import KitError

PARTS = (discrepancy_ecgqa, discrepancy_esi, discrepancy_fewshot, discrepancy_risk)
EFFECTS = {effect.__name__: effect for part in PARTS for effect in part.EFFECTS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("ids", nargs="*", metavar="ID", help="rows of the ledger; none = all")
    ids, found = parser.parse_args().ids or list(EFFECTS), {}
    if unknown := set(ids) - EFFECTS.keys():
        parser.error(f"no effect of {', '.join(sorted(unknown))}; choose {', '.join(EFFECTS)}")
    torch.set_num_threads(1)  # sums in another order would move the last digits
    for name in ids:
        try:
            found[name] = EFFECTS[name]()
        except KitError as error:
            print(f"{name}: left out, {error}", flush=True)
        else:
            print(f"{name}: {found[name]}", flush=True)
    print(json.dumps(found))


if __name__ == "__main__":
    main()
