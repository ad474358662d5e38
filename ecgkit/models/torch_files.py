"""Reading a .pt file without running what it may carry.

A .pt file is a pickle, and a pickle may name any function to be called while it is read. Torch's
own `weights_only=True` reads most files safely, but refuses a checkpoint whose settings or training
state hold foreign classes (omegaconf, meters of fairseq, argparse.Namespace, numpy scalars). Those
are read here by `SafeUnpickler`, which imports nothing that a file names: containers become dicts
and lists, tensors are cut from their bytes, an object of any other class becomes an inert
`Stranger`, and a file that names a function of Python itself (os.system, eval) is refused.

Source: the file layout of torch.save (zip since torch 1.6, a row of pickles before).

Usage:

    state, cfg = read_torch_file("mimic_iv_ecg_physionet_pretrained.pt")
"""

from __future__ import annotations

import builtins
import io
import math
import pickle
import re
import sys
import warnings
import zipfile
from _compat_pickle import IMPORT_MAPPING, NAME_MAPPING  # Python 2's names, which protocol 2 writes
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from ecgkit.types import KitError, ModelError

DTYPES = {
    "DoubleStorage": torch.float64, "FloatStorage": torch.float32, "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16, "LongStorage": torch.int64, "IntStorage": torch.int32,
    "ShortStorage": torch.int16, "CharStorage": torch.int8, "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}  # fmt: skip
LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
# Modules of Python whose names in a checkpoint are types of settings, not something to be called.
PLAIN_MODULES = {"argparse", "collections", "copyreg", "datetime", "decimal", "enum", "fractions",
                 "pathlib", "types", "typing", "uuid", "_codecs"}  # fmt: skip


class Storage(NamedTuple):
    """Where the bytes of tensors lie in the file; nothing is read yet."""

    dtype: torch.dtype
    key: str
    numel: int


class Slice(NamedTuple):
    """A tensor to be: part of a storage."""

    storage: Storage
    offset: int
    size: tuple
    stride: tuple


class Stranger:
    """Stands for an object of a class that is not imported: keeps what the file says, does nothing.

    Subclasses are made per class named in the file, so that nothing of one file reaches the next.
    """

    __slots__ = ("args", "state")

    def __new__(cls, *args, **kwargs):
        self = super().__new__(cls)
        self.args, self.state = args, {}
        return self

    def __setstate__(self, state):
        for part in state if isinstance(state, tuple) else (state,):  # (dict, slots) or dict
            self.state.update(part if isinstance(part, dict) else {})

    def __setitem__(self, key, value):
        self.state[key] = value

    def append(self, item):
        """Items of foreign lists and sets are not kept."""

    add = append


class Table(dict):
    """An OrderedDict, defaultdict or Counter of the file: a dict without factory or attributes."""

    __slots__ = ()

    def __init__(self, *args):
        super().__init__(*(a for a in args if isinstance(a, (dict, list))))

    def __setstate__(self, state):
        """Attributes (a state dict's version numbers) are not kept."""


class SafeUnpickler(pickle.Unpickler):
    """Every name in the pickle is looked up in `self.known`, never imported."""

    def __init__(self, stream):
        super().__init__(stream)
        self.storages: dict[str, Storage] = {}
        # Bound methods and fresh classes only: a pickle could set attributes of plain functions.
        self.known = {
            "collections.OrderedDict": Table, "collections.defaultdict": Table,
            "collections.Counter": Table, "builtins.set": set,
            "_codecs.encode": self._bytes, "copyreg._reconstructor": self._object,
            "torch._utils._rebuild_tensor": self._slice,
            "torch._utils._rebuild_tensor_v2": self._slice,
            "torch._utils._rebuild_parameter": self._parameter,
            "numpy.core.multiarray.scalar": self._number,
            "numpy._core.multiarray.scalar": self._number,
        }  # fmt: skip

    def find_class(self, module: str, name: str):
        module, name = NAME_MAPPING.get((module, name), (IMPORT_MAPPING.get(module, module), name))
        full = f"{module}.{name}"
        if full in self.known:
            return self.known[full]
        if module.startswith("torch") and name in DTYPES:
            return DTYPES[name]
        if _is_function_of_python(module, name):
            raise ModelError(
                f"the file names {full}, which has no place in a checkpoint and would be called "
                "while it is loaded; nothing was run. Do not use this file: get it again from its "
                "publisher"
            )
        self.known[full] = type(name, (Stranger,), {"__slots__": (), "__module__": module})
        return self.known[full]

    def persistent_load(self, pid) -> Storage:
        kind, dtype, key, _, numel, *view = pid
        if kind not in ("storage", b"storage") or view not in ([], [None]):
            raise pickle.UnpicklingError(f"unknown reference {kind!r}")
        self.storages[key] = Storage(dtype, key, int(numel))
        return self.storages[key]

    def _slice(self, storage, offset, size, stride, *_):
        return Slice(storage, offset, size, stride)

    def _parameter(self, data, *_):
        return data

    def _bytes(self, text, *_):
        return text.encode("latin1")

    def _object(self, cls, *_):
        return cls()

    def _number(self, dtype, data=b""):
        """A numpy scalar as a Python number; None where it is not one."""
        kind = str(dtype.args[0])
        return np.frombuffer(data, kind)[0].item() if re.fullmatch("[biuf][1248]", kind) else None


def _is_function_of_python(module: str, name: str) -> bool:
    """Inert here in any case; but a file that names one was made to run code where it is loaded."""
    if module == "builtins":
        return not isinstance(vars(builtins).get(name), type)
    top = module.split(".")[0]
    plain = top in PLAIN_MODULES or (module, name) == ("_operator", "getitem")  # typing.Dict[..]
    return top in sys.stdlib_module_names and not plain


# --- the two layouts ------------------------------------------------------------------------------


@contextmanager
def _opened(path: Path) -> Iterator[tuple[object, Callable[[Storage], bytes]]]:
    """The file's top object, and a function that reads the bytes of a storage."""
    with _opened_zip(path) if _is_zip(path) else _opened_legacy(path) as opened:
        yield opened


@contextmanager
def _opened_zip(path: Path):
    with zipfile.ZipFile(path) as archive:
        main = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        root = main.removesuffix("data.pkl")
        top = SafeUnpickler(io.BytesIO(archive.read(main))).load()

        def read(storage: Storage) -> bytes:
            entry = archive.getinfo(f"{root}data/{storage.key}")
            if entry.file_size != storage.numel * storage.dtype.itemsize:
                raise ValueError(f"tensor data {storage.key} has the wrong length")
            return archive.read(entry)

        yield top, read


@contextmanager
def _opened_legacy(path: Path):
    with open(path, "rb") as stream:
        if SafeUnpickler(stream).load() != LEGACY_MAGIC:
            raise ValueError("it does not begin as torch.save writes")
        for _ in ("version of the layout", "byte order and integer sizes"):
            SafeUnpickler(stream).load()
        unpickler = SafeUnpickler(stream)
        top, keys = unpickler.load(), SafeUnpickler(stream).load()
        places = {}
        for key in keys:
            numel = int.from_bytes(stream.read(8), "little")
            places[key] = stream.tell(), numel * unpickler.storages[key].dtype.itemsize
            stream.seek(places[key][1], 1)

        def read(storage: Storage) -> bytes:
            start, length = places[storage.key]
            stream.seek(start)
            return stream.read(length)

        yield top, read


def _is_zip(path: Path) -> bool:
    with open(path, "rb") as stream:
        return stream.read(4) == b"PK\x03\x04"


def _tensor(value, read: Callable[[Storage], bytes] | None):
    if not isinstance(value, Slice):
        return value
    storage, offset, size, stride = value
    if math.prod(size) > storage.numel:
        raise ValueError(f"a tensor of shape {tuple(size)} is larger than its data")
    data = bytearray(read(storage))
    flat = torch.frombuffer(data, dtype=storage.dtype) if data else torch.empty(0)
    if len(flat) < storage.numel:
        raise ValueError("tensor data end too early")
    return flat.to(storage.dtype).as_strided(size, stride, offset).clone()


# --- what is taken --------------------------------------------------------------------------------


def read_weights(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """`read_torch_file`, or the weights of a .safetensors file, which can carry nothing else."""
    path = Path(path)
    if path.suffix != ".safetensors":
        return read_torch_file(path)
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(str(path)), {}
    except (OSError, SafetensorError) as error:
        raise ModelError(
            f"{path.name} is not a readable .safetensors file ({error}); it is missing or cut "
            "short: check the path, or download it again."
        ) from None


def read_torch_file(path: str | Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Weights by name and the settings as plain dicts, lists, numbers and strings.

    Takes `model` and `cfg` (else `args`) of a trainer's file, or a bare state dict; everything else
    (optimiser moments, metrics) is left in the file. Raises ModelError in a sentence where the file
    is missing, cut short, no checkpoint, or made to run code.
    """
    path = Path(path)
    if not path.is_file():
        raise ModelError(f"There is no file {path}; give the path of a checkpoint (.pt).")
    try:
        try:
            with warnings.catch_warnings():  # "unusual pickle protocol": it is read below, then
                warnings.simplefilter("ignore")
                top = torch.load(path, map_location="cpu", weights_only=True, mmap=_is_zip(path))
            return _taken(top, None)
        except pickle.UnpicklingError:  # a class that torch does not know: the slow, careful way
            with _opened(path) as (top, read):
                return _taken(top, read)
    except KitError as error:
        raise ModelError(f"{path.name}: {error}.") from None
    except Exception as error:  # noqa: BLE001 - a broken or hostile file may raise anything
        reason = (str(error).splitlines() or [""])[0][:120]
        raise ModelError(
            f"{path.name} is not a readable PyTorch checkpoint ({type(error).__name__}: {reason}); "
            "it may be cut short or of another kind: download it again, or check the path."
        ) from None


def _taken(top, read) -> tuple[dict[str, torch.Tensor], dict]:
    if not isinstance(top, dict) or not top:
        what = "is empty" if isinstance(top, dict) else f"holds a {type(top).__name__}, no dict"
        raise ModelError(f"the file {what}; a checkpoint has the entries model and cfg")
    weights = top.get("model", top)
    weights = weights if isinstance(weights, dict) else {}
    others = [key for key, value in weights.items() if not isinstance(value, (torch.Tensor, Slice))]
    if not weights or others:
        raise ModelError(
            f"no weights found (entries: {_few(top)}); a checkpoint has an entry `model` of named "
            "tensors, or is such a dict itself"
        )
    cfg = _plain(top.get("cfg"), {}) or {"model": _plain(top.get("args"), {}) or {}}
    return {str(k): _tensor(v, read) for k, v in weights.items()}, _as_dict(cfg)


def _plain(value, seen: dict):
    """Dicts, lists, numbers and strings of a settings tree; None for what is none of these.

    An omegaconf node keeps its content in `_content` or `_val`, a Namespace or dataclass in its
    attributes, an enum in its argument. `seen` ends circles and keeps shared parts shared.
    """
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if id(value) in seen:
        return seen[id(value)]
    seen[id(value)] = None
    if isinstance(value, dict):
        found = {str(k): _plain(v, seen) for k, v in value.items()}
    elif isinstance(value, (list, tuple)) and not isinstance(value, (Slice, Storage)):
        found = [_plain(v, seen) for v in value]
    elif isinstance(value, Stranger):
        node = next((value.state[k] for k in ("_content", "_val") if k in value.state), value.state)
        found = _plain(node, seen) if node or not value.args else _plain(value.args[0], seen)
    else:
        found = None
    seen[id(value)] = found
    return found


def _as_dict(value) -> dict:
    return value if isinstance(value, dict) else {}


def _few(names, limit: int = 5) -> str:
    shown = ", ".join(str(name)[:60] for name in list(names)[:limit])
    return shown + (f" and {len(names) - limit} more" if len(names) > limit else "")
