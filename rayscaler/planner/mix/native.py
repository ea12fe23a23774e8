"""Fills of one node, and mending, by compiled code (native.c), which does what `search` and `mend` do in Python, where it was compiled and can be used."""

import ctypes
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import numpy as np

from rayscaler.model.resources import MANY, UNIT
from rayscaler.planner.devices import Devices, Several
from rayscaler.planner.mix.library import library
from rayscaler.planner.mix.mend import MOST_MADE, NEAR_BY, Broken, Mended
from rayscaler.planner.mix.problem import Column, Content, Problem
from rayscaler.planner.mix.search import Ask, Found, by_worth
from rayscaler.planner.mix.shares import Shares
from rayscaler.planner.sim import Needs

MOST_KINDS, MOST_POOLS, MOST_DEVICES = 64, 8, 64
"""Of resources, of devices among them, and of devices of one kind on one node: what rooms in native.c hold."""
FILLS, PIECES = 1_024, 16_384
"""How many fills, and shapes in all of them together, there is room for at first."""

_POINTER = ctypes.c_void_p


class _Struct(ctypes.Structure):
    """A struct of native.c. It keeps the arrays that it points to."""

    @classmethod
    def of(cls, **values: Any) -> Self:
        made = cls()
        made.arrays = [each for each in values.values() if isinstance(each, np.ndarray)]
        for name, value in values.items():
            setattr(made, name, value.ctypes.data if isinstance(value, np.ndarray) else value)
        return made


class _Shapes(_Struct):
    _fields_ = [
        ("count", ctypes.c_int32),
        *((name, _POINTER) for name in ("begin", "kind", "amount", "part", "part_amount", "part_count")),
        ("unit", ctypes.c_int64),
        ("many", ctypes.c_int64),
    ]  # fmt: skip


class _Type(_Struct):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("kinds", "pools", "shapes", "orders")),
        *((name, _POINTER) for name in ("amount", "pool", "begin", "free", "number", "shape", "weight")),
    ]


class _Ask(_Struct):
    _fields_ = [
        *((name, _POINTER) for name in ("worth", "prices", "counts")),
        *((name, ctypes.c_double) for name in ("more_than", "floor")),
        ("effort", ctypes.c_int32),
    ]  # fmt: skip


class _Out(_Struct):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("most_fills", "most_pieces", "fills")),
        ("best", ctypes.c_double),
        ("work", ctypes.c_int64),
        *((name, _POINTER) for name in ("value", "begin", "shape", "count")),
    ]


class _Mix(_Struct):
    _fields_ = [
        *((name, ctypes.c_int32) for name in ("types", "nodes", "most_nodes")),
        *((name, _POINTER) for name in ("type", "price", "spend", "is_new", "spare")),
        *((name, ctypes.c_int64) for name in ("total", "money")),
        *((name, _POINTER) for name in ("worth", "orders", "order", "kind", "pieces", "left", "made", "log")),
        *((name, ctypes.c_int64) for name in ("work", "most_work")),
        ("chance", ctypes.c_uint32),
    ]  # fmt: skip


@cache
def _library(path: Path) -> Any:
    """Return the compiled code, or None where there is none that this machine can load."""
    try:
        return ctypes.CDLL(str(path))
    except OSError:
        return None


def of(problem: Problem, types: Sequence[Shares], path: Path | None = None) -> "Native | None":
    """Return a search by compiled code; None where there is none, or the problem is beyond it."""
    code = _library(path or library())
    kinds = max((len(each.room) for each in types), default=0)
    pools = max((sum(isinstance(held, Devices) for held in each.room) for each in types), default=0)
    devices = [sum(number for _, number in held) for each in types for held in each.room if isinstance(held, Devices)]
    if code is None or kinds > MOST_KINDS or pools > MOST_POOLS or max(devices, default=0) > MOST_DEVICES:
        return None
    return Native(problem, types, code)


class Native:
    """Makes fills of the types of one problem, as `Search` does."""

    def __init__(self, problem: Problem, types: Sequence[Shares], code: Any) -> None:
        self._code, self._problem = code, problem
        self._shapes, self._types = _shapes(problem.needs), [_type(each) for each in types]
        self._shapes_at, self._types_at = ctypes.byref(self._shapes), [ctypes.byref(each) for each in self._types]
        count = len(problem.needs)
        self._scratch = np.zeros(7 * count, np.int32), np.zeros(3 * count, np.int64), np.zeros(2 * count, np.float64)
        self._scratch_at = [ctypes.c_void_p(each.ctypes.data) for each in self._scratch]
        self._out = _Buffer(FILLS, PIECES)

    def price(self, kinds: Sequence[int], ask: Ask) -> list[Found]:
        """Return the fills of each of these types that pay."""
        asked = _asked(ask.worth, ask.prices, ask.counts, effort=ask.effort)
        found: list[Found] = []
        for kind in kinds:
            asked.floor, asked.more_than = ask.floors[kind], ask.floors[kind] + ask.margins[kind]
            self._call(self._code.rayscaler_price, kind, asked)
            found.append(self._out.found(self._out.best(ask.most)))
        return found

    def led(self, kind: int, worth: Sequence[float], counts: Sequence[int]) -> Found:
        """Return, for each shape of a type, a fill that begins with it; the rest by density."""
        self._call(self._code.rayscaler_led, kind, _asked(worth, worth, counts))
        return self._out.found(self._out.all())

    def mend(self, broken: Broken) -> Mended:
        """Mend a mix."""
        shapes, types = len(broken.left), len(self._types)
        kinds, pieces = np.zeros(broken.most_nodes, np.int32), np.zeros((broken.most_nodes, shapes), np.int64)
        for node, (kind, content) in enumerate(broken.nodes):
            kinds[node] = kind
            for shape, count in content:
                pieces[node, shape] = count
        orders = [each.shapes * (each.orders + 1) for each in self._types]
        mix = _Mix.of(
            types=types,
            nodes=len(broken.nodes),
            most_nodes=broken.most_nodes,
            type=np.array([ctypes.addressof(each) for each in self._types], np.uintp),
            price=np.array(self._problem.prices, np.int64),
            spend=np.array([self._problem.spend(kind) for kind in range(types)], np.int64),
            is_new=np.array([self._problem.is_new(kind) for kind in range(types)], np.int32),
            spare=np.array(broken.spare, np.int64),
            total=broken.total,
            money=-1 if broken.money is None else broken.money,
            worth=np.array(broken.worth, np.float64),
            orders=np.zeros(sum(orders), np.int32),
            order=np.cumsum([0, *orders[:-1]], dtype=np.int32),
            kind=kinds,
            pieces=pieces,
            left=np.array(broken.left, np.int64),
            made=np.zeros((MOST_MADE + 1, shapes), np.int64),
            log=np.zeros(3 * NEAR_BY * shapes, np.int64),
            most_work=broken.looks,
            chance=broken.chance,
        )
        self._code.rayscaler_mend(self._shapes_at, ctypes.byref(mix), self._scratch_at[0], self._scratch_at[2])
        return Mended([_column(kind, row) for kind, row in zip(kinds[: mix.nodes].tolist(), pieces, strict=False)], mix.work)

    def _call(self, function: Any, kind: int, asked: _Ask) -> None:
        while function(self._shapes_at, self._types_at[kind], ctypes.byref(asked), ctypes.byref(self._out.told), *self._scratch_at):
            self._out = _Buffer(2 * self._out.fills, 2 * self._out.pieces)


def _asked(worth: Sequence[float], prices: Sequence[float], counts: Sequence[int], *, effort: int = 0) -> _Ask:
    return _Ask.of(worth=np.array(worth, np.float64), prices=np.array(prices, np.float64), counts=np.array(counts, np.int64), effort=effort)


class _Buffer:
    """Where fills are written."""

    def __init__(self, fills: int, pieces: int) -> None:
        self.fills, self.pieces = fills, pieces
        self._value, self._begin = np.zeros(fills, np.float64), np.zeros(fills + 1, np.int32)
        self._shape, self._count = np.zeros(pieces, np.int32), np.zeros(pieces, np.int64)
        self.told = _Out.of(
            most_fills=fills, most_pieces=pieces, value=self._value, begin=self._begin, shape=self._shape, count=self._count
        )

    def found(self, fills: list[tuple[float, Content]]) -> Found:
        """Return these fills with what else was told."""
        return Found(self.told.best, fills, self.told.work)

    def all(self) -> list[tuple[float, Content]]:
        """Return each fill with its worth."""
        return [self._read(index) for index in range(self.told.fills)]

    def best(self, most: int) -> list[tuple[float, Content]]:
        """Return so many different fills that are worth most; others are not even read."""
        values = self._value[: self.told.fills]
        found: dict[tuple[float, Content], None] = {}
        last = 0.0
        for index in np.argsort(-values, kind="stable").tolist():
            if len(found) >= most and values[index] < last:
                break
            found[self._read(index)] = None
            last = values[index]
        return sorted(found, key=by_worth)[:most]

    def _read(self, index: int) -> tuple[float, Content]:
        part = slice(self._begin[index], self._begin[index + 1])
        return float(self._value[index]), tuple(zip(self._shape[part].tolist(), self._count[part].tolist(), strict=True))


def _column(kind: int, row: "np.ndarray[tuple[int], np.dtype[np.int64]]") -> Column:
    (there,) = np.nonzero(row)
    return Column(kind, tuple(zip(there.tolist(), row[there].tolist(), strict=True)))


def _shapes(needs: Sequence[Needs]) -> _Shapes:
    flat = [each for of_shape in needs for each in of_shape]
    parts = [amount.parts if isinstance(amount, Several) else () for _, amount in flat]
    flat_parts = [part for each in parts for part in each]
    return _Shapes.of(
        count=len(needs),
        begin=_ends(needs),
        kind=np.array([kind for kind, _ in flat], np.int32),
        amount=np.array([int(amount) for _, amount in flat], np.int64),
        part=_ends(parts),
        part_amount=np.array([amount for amount, _ in flat_parts], np.int64),
        part_count=np.array([count for _, count in flat_parts], np.int64),
        unit=UNIT,
        many=MANY,
    )


def _type(shares: Shares) -> _Type:
    pools = [held for held in shares.room if isinstance(held, Devices)]
    places = iter(range(len(pools)))
    flat = [each for pool in pools for each in pool]
    return _Type.of(
        kinds=len(shares.room),
        pools=len(pools),
        shapes=len(shares.shapes),
        orders=len(shares.weights),
        amount=np.array([0 if isinstance(held, Devices) else held for held in shares.room], np.int64),
        pool=np.array([next(places) if isinstance(held, Devices) else -1 for held in shares.room], np.int32),
        begin=_ends(pools),
        free=np.array([free for free, _ in flat], np.int64),
        number=np.array([number for _, number in flat], np.int64),
        shape=np.array(shares.shapes, np.int32),
        weight=np.array([each for weights in shares.weights for each in weights], np.float64),
    )


def _ends(groups: Sequence[Sequence[Any]]) -> "np.ndarray[tuple[int], np.dtype[np.int32]]":
    """Return where each group begins in all of them joined, and the end of the last."""
    return np.cumsum([0, *map(len, groups)], dtype=np.int32)
