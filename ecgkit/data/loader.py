"""Batches for a torch DataLoader: signals read from the memory map one batch at a time, padding
masks, labels; safe in worker processes, whether forked or spawned.

Usage:

    data = EcgDataset(cohort.store, rows=split.train, labels=labels)     # or cohort.view(...)
    loader = DataLoader(data, batch_size=64, shuffle=True, collate_fn=collate, num_workers=2)
    for batch in loader:
        batch["signal"], batch["mask"], batch["label"]
    describe(batch)                                                      # prints what it is
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ecgkit.types import DataError

_TENSORS = ("signal", "mask", "label", "row")


class EcgDataset:
    """Rows of a store or view as torch samples; item i is row `rows[i]` (None = every row).

    labels: (n, K) or (n,), entry i belongs to item i. columns: names in the store's index to hand
    along, as lists (`("ecg_id",)`). Needs `collate` as the DataLoader's collate_fn, which then gets
    whole batches (`__getitems__`). Raises DataError where lengths or names do not fit.
    """

    def __init__(self, store, rows=None, labels=None, columns: Sequence[str] = ()):
        self.store = store
        self.rows = np.arange(len(store)) if rows is None else np.asarray(rows, np.int64)
        self.labels = None if labels is None else np.asarray(labels)
        if self.labels is not None and len(self.labels) != len(self.rows):
            raise DataError(
                f"There are {len(self.labels)} labels for {len(self.rows)} rows; give one label "
                "per row, in the order of the rows."
            )
        if len(self.rows) and not 0 <= self.rows.min() <= self.rows.max() < len(store):
            raise DataError(
                f"Rows {self.rows.min()} to {self.rows.max()} are asked for, but the store has 0 "
                f"to {len(store) - 1}."
            )
        absent = [name for name in columns if name not in store.index]
        if absent:
            raise DataError(
                f"The store's index has no column {', '.join(absent)}; it has "
                f"{', '.join(store.index.columns)}."
            )
        # Copied out, so that the table need not travel to each worker.
        self.columns = {name: store.index[name].to_numpy()[self.rows] for name in columns}

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, item: int) -> dict:
        """One sample: as a batch of one without its first axis (lists give their only entry)."""
        item = range(len(self))[item]  # negative items, and IndexError where iteration ends
        batch = self.__getitems__([item])
        few = (*_TENSORS, *self.columns)
        return {name: value[0] if name in few else value for name, value in batch.items()}

    def __getitems__(self, items: Sequence[int]) -> dict:
        """A batch: signal (B, C, T) float32, mask (B, T) bool (True = padding), row (B,), label
        (B, ...) if there are labels, columns as lists; fs, leads and unit for the whole batch.
        """
        import torch

        items = np.asarray(items, np.int64)
        rows = self.rows[items]
        batch = {
            "signal": torch.from_numpy(self.store.read(rows)),
            "mask": torch.from_numpy(self.store.mask(rows)),
            "row": torch.from_numpy(rows),
        }
        if self.labels is not None:
            batch["label"] = torch.from_numpy(self.labels[items])
        batch |= {name: values[items].tolist() for name, values in self.columns.items()}
        return batch | {"fs": self.store.fs, "leads": self.store.leads, "unit": self.store.unit}


def collate(batch) -> dict:
    """What a DataLoader got from an EcgDataset -> the batch.

    It is one already, unless the samples were taken one by one (another sampler, a Subset of torch
    < 2.1): these are stacked, shorter ones with zeros and mask behind.
    """
    if isinstance(batch, dict):
        return batch
    import torch

    first, width = batch[0], max(sample["signal"].shape[-1] for sample in batch)
    whole = {
        "signal": torch.stack([_widened(sample["signal"], width, 0.0) for sample in batch]),
        "mask": torch.stack([_widened(sample["mask"], width, True) for sample in batch]),
    }
    for name in first:
        if name in ("row", "label"):
            whole[name] = torch.stack([sample[name] for sample in batch])
        elif name in ("fs", "leads", "unit"):
            whole[name] = first[name]
        elif name not in whole:
            whole[name] = [sample[name] for sample in batch]
    return whole


def _widened(x, width: int, value):
    from torch.nn.functional import pad

    return pad(x, (0, width - x.shape[-1]), value=value)


def describe(batch_or_dataset) -> None:
    """Prints what a batch is (shapes, types, unit, Hz, leads, padding), or what a dataset gives."""
    if isinstance(batch_or_dataset, EcgDataset):
        data = batch_or_dataset
        print(f"{len(data)} ECGs of {len(data.store)}; the first as a")
        batch_or_dataset = data.__getitems__([0] if len(data) else [])
    print(_words(batch_or_dataset))


def _words(batch: dict) -> str:
    signal, mask = batch["signal"], batch["mask"]
    padded = 100 * float(mask.float().mean()) if mask.numel() else 0.0
    parts = [
        f"signal {_shape(signal)} {batch['unit']} at {batch['fs']:g} Hz, leads "
        + " ".join(batch["leads"]),
        f"mask {_shape(mask)}, True = padding ({padded:.2g} % of samples)",
    ]
    if "label" in batch:
        parts.append(f"labels {_shape(batch['label'])}")
    known = (*_TENSORS, "fs", "leads", "unit")
    parts += [f"{name} {len(value)}" for name, value in batch.items() if name not in known]
    return f"batch of {len(signal)}: " + "; ".join(parts)


def _shape(tensor) -> str:
    return f"{tuple(tensor.shape)} {str(tensor.dtype).removeprefix('torch.')}"
