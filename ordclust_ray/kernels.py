"""The inner loops of clustering on CPUs, compiled by numba: one read of the features a pass, no n x k array.

The rows of a block are read once; they stay in the cache while they are compared with the centroids in float32 and
added to the sums of their clusters as whole multiples of the grid of `core.blocks`. Where float32 cannot tell which of
two centroids is nearer, similarities are computed again without rounding error: the result is that of exact arithmetic.

A row is not read at all where bounds show that its nearest centroid is still the same: a centroid that moved by delta
changes its similarity to a unit row by at most delta (Hamerly 2010 for cosines; one bound for each panel of centroids
instead of one for all, after Ding et al. 2015). Nor where its sketch tells (see `core.sketch`).

One file, for numba compiles anew only what stands in a file that changed.

Legend: N rows, D features, K clusters, P panels of up to `LANES` centroids, M rows of a block, S numbers of a sketch.
"""

from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.core import cgutils
from numba.extending import intrinsic, overload
from numpy.typing import NDArray

LANES = 16
ROWS = 8
"""Rows and centroids that are compared at once: their dot products fill half of a CPU's vector registers."""
BLOCK_BYTES = 512 * 1024
"""Rows that are looked at together: half of a core's L2 cache."""
TERMS = 31
"""So many numbers of at most 2^26 fit into an int32."""
UNIT = np.float32(2.0**-26)
SLACK = np.float32(2.0**-20)
"""More than float32 rounds a bound, as long as all centroids together moved by less than 8."""
NEVER, FAR = np.float32(-32.0), np.float32(32.0)
"""Bounds of a row of which nothing is known."""
NOWHERE = np.float32(1e30)
"""The sketch of a lane without a centroid is so far outside that no row is near it."""


def _tile(lanes: int) -> Any:
    """Dot products of `ROWS` rows with `lanes` centroids; each lane of a vector register is a centroid."""
    vector, integer = ir.VectorType(ir.FloatType(), lanes), ir.IntType(64)

    def vector_at(builder: ir.IRBuilder, pointer: Any, offset: Any) -> Any:
        return builder.bitcast(builder.gep(pointer, [offset]), vector.as_pointer())

    @intrinsic
    def tile(typing_context: Any, rows: Any, at: Any, first: Any, panels: Any, p: Any, products: Any) -> Any:
        def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
            arrays = [context.make_array(signature.args[i])(context, builder, arguments[i]) for i in (0, 1, 3, 5)]
            x_ND, at_M, c_DL, s_RL = (array.data for array in arrays)
            width, sums, x_D = builder.extract_value(arrays[0].shape, 1), [], []
            c_DL = builder.gep(c_DL, [builder.mul(arguments[4], builder.mul(width, integer(LANES)))])
            s_RL = builder.gep(s_RL, [builder.mul(arguments[4], integer(ROWS * LANES))])
            for r in range(ROWS):
                row = builder.load(builder.gep(at_M, [builder.add(arguments[2], integer(r))]))
                x_D.append(builder.gep(x_ND, [builder.mul(row, width)]))
                sums.append(cgutils.alloca_once_value(builder, ir.Constant(vector, [0.0] * lanes)))
            undefined = ir.Constant(vector, ir.Undefined)
            everywhere = ir.Constant(ir.VectorType(ir.IntType(32), lanes), [0] * lanes)
            with cgutils.for_range(builder, width, intp=integer) as loop:
                c_L = builder.load(vector_at(builder, c_DL, builder.mul(loop.index, integer(lanes))), align=4)
                for r in range(ROWS):
                    x = builder.load(builder.gep(x_D[r], [loop.index]))
                    x_L = builder.insert_element(undefined, x, ir.IntType(32)(0))
                    x_L = builder.shuffle_vector(x_L, undefined, everywhere)
                    product = builder.fmul(x_L, c_L, flags=("contract",))
                    builder.store(builder.fadd(product, builder.load(sums[r]), flags=("contract",)), sums[r])
            for r in range(ROWS):
                builder.store(builder.load(sums[r]), vector_at(builder, s_RL, integer(r * LANES)), align=4)
            return context.get_dummy_value()

        return types.void(rows, at, types.int64, panels, types.int64, products), generate

    return tile


_tile16, _tile8 = _tile(16), _tile(8)


@intrinsic
def _number(typing_context: Any, value: Any) -> Any:
    """A feature as it is; uint16 holds the bits of a float16, int16 those of a bfloat16."""

    def generate(context: Any, builder: ir.IRBuilder, signature: Any, arguments: Any) -> Any:
        if value == types.uint16:
            return builder.fpext(builder.bitcast(arguments[0], ir.HalfType()), ir.FloatType())
        if value == types.int16:
            word = ir.IntType(32)
            return builder.bitcast(builder.shl(builder.zext(arguments[0], word), word(16)), ir.FloatType())
        return arguments[0]

    return (types.float32 if value in (types.uint16, types.int16) else value)(value), generate


class Centroids(NamedTuple):
    """Centroids as `assign` wants them.

    Attributes:
        exact: (K, D) on the grid.
        panels: (P, D, LANES) in float32, of a panel of up to 8 centroids only the first half.
        members: (P, LANES) the cluster of each lane; ascending.
        widths: (P,) centroids of each panel.
        panel_of: (K,).
        lane_of: (K,).
        own_drift: (K,) how far each centroid has moved, in all.
        panel_drift: (P,) the same for the one that moved most of each panel, iteration by iteration.
        drift: (K, P) of a centroid and a panel: how far it and the one that moved most of the others there have moved.
        error: how far a similarity in float32 may be from the exact one.
        sketches: (P, S, LANES) as `panels`; S is 0 where rows have no sketches.
        outside: (P, LANES) twice the last number of each sketch.
        sketch_error: how far a bound by sketches may be from the exact one.
    """

    exact: NDArray[np.float64]
    panels: NDArray[np.float32]
    members: NDArray[np.int64]
    widths: NDArray[np.int64]
    panel_of: NDArray[np.int64]
    lane_of: NDArray[np.int64]
    own_drift: NDArray[np.float64]
    panel_drift: NDArray[np.float64]
    drift: NDArray[np.float64]
    error: float
    sketches: NDArray[np.float32]
    outside: NDArray[np.float32]
    sketch_error: float


class Members(NamedTuple):
    """What is remembered of each row.

    Attributes:
        labels: (N,) its cluster, -1 before the first pass.
        lower: (N,) lower bound of its similarity to its centroid, plus `own_drift` of then.
        upper: (N, P) upper bound of its similarity to every other centroid of a panel, less the panel's drift of then.
        sketches: (N, S).
    """

    labels: NDArray[np.int32]
    lower: NDArray[np.float32]
    upper: NDArray[np.float32]
    sketches: NDArray[np.float32]


class _Found(NamedTuple):
    """Of each row of a block and each panel: the two best similarities and the best cluster, where known.

    Attributes:
        possible: whether the panel may hold the nearest centroid, as the row's sketch tells.
        packed: (ROWS,) and
        products: (P, ROWS, LANES) which rows are multiplied with panels just now, and what that gives.
    """

    top: NDArray[np.float32]
    second: NDArray[np.float32]
    nearest: NDArray[np.int64]
    known: NDArray[np.bool_]
    possible: NDArray[np.bool_]
    packed: NDArray[np.int64]
    products: NDArray[np.float32]


@njit(nogil=True, cache=True)
def _component(value: Any, scale: Any) -> Any:
    """A component of a unit row, in units of the grid: a whole number."""
    return np.rint(np.float32(_number(value) * scale))


@njit(nogil=True, cache=True)
def squared_norms(x: NDArray, out: NDArray[np.float64]) -> None:
    """Squared length of each row, added up in an order that no compiler and no CPU changes."""
    D, lanes = x.shape[1], np.empty(LANES)
    whole = D // LANES * LANES
    for i in range(len(x)):
        row = x[i]
        lanes[:] = 0
        for start in range(0, whole, LANES):
            for lane in range(LANES):
                value = np.float64(_number(row[start + lane]))
                lanes[lane] += value * value
        for j in range(whole, D):
            value = np.float64(_number(row[j]))
            lanes[j - whole] += value * value
        total = 0.0
        for lane in range(LANES):
            total += lanes[lane]
        out[i] = total


@njit(nogil=True, cache=True)
def _normalise(x: NDArray, i: int, scale: Any, out: NDArray[np.float32]) -> None:
    for j in range(len(out)):
        out[j] = _component(x[i, j], scale)


@njit(nogil=True, cache=True)
def take(x: NDArray, scales: NDArray, index: NDArray[np.int64], out: NDArray[np.float32]) -> None:
    """Some rows as unit rows, in units of the grid."""
    for q in range(len(index)):
        _normalise(x, index[q], scales[index[q]], out[q])


@njit(nogil=True, cache=True, fastmath={"reassoc", "contract"})
def _exact(row: NDArray, scale: Any, centroid: NDArray[np.float64]) -> Any:
    """A similarity, in units of the grid: no partial sum is rounded, whatever the order."""
    total = 0.0
    for j in range(len(row)):
        total += np.float64(_component(row[j], scale)) * centroid[j]
    return total


@njit(nogil=True, cache=True)
def similarities(
    x: NDArray,
    scales: NDArray,
    centroid: NDArray[np.float64],
    labels: NDArray[np.int32],
    wanted: NDArray[np.bool_],
    out: NDArray[np.float64],
) -> None:
    """Exact similarities of the members of some clusters; other rows are left alone."""
    for i in range(len(x)):
        if wanted[labels[i]]:
            out[i] = _exact(x[i], scales[i], centroid) * 2.0**-26


@njit(nogil=True, cache=True)
def _add(row: NDArray, scale: Any, sign: Any, small: NDArray[np.int32], sums: NDArray[np.int64], terms: Any) -> Any:
    """Adds a row to a cluster's sum; returns how many terms its int32 part holds."""
    for j in range(len(row)):
        small[j] += sign * np.int32(_component(row[j], scale))
    if terms + 1 < TERMS:
        return terms + 1
    _flush(small, sums)
    return 0


@njit(nogil=True, cache=True)
def _flush(small: NDArray[np.int32], sums: NDArray[np.int64]) -> None:
    for j in range(len(small)):
        sums[j] += small[j]
        small[j] = 0


@njit(nogil=True, cache=True)
def add_members(x: NDArray, scales: NDArray, labels: NDArray[np.int32], sums: NDArray[np.int64]) -> None:
    """Adds every row to the sum of its cluster."""
    small, terms = np.zeros(sums.shape, np.int32), np.zeros(len(sums), np.int64)
    for i in range(len(x)):
        j = labels[i]
        terms[j] = _add(x[i], scales[i], np.int32(1), small[j], sums[j], terms[j])
    for j in range(len(sums)):
        _flush(small[j], sums[j])


@njit(nogil=True, cache=True, fastmath={"reassoc"})
def _touch(row: NDArray[np.float32]) -> Any:
    """Brings a row into the cache, faster than many rows at once come."""
    total = np.float32(0)
    for j in range(len(row)):
        total += row[j]
    return total


@njit(nogil=True, cache=True)
def fetch(x: NDArray, scales: NDArray, index: NDArray[np.int64], buffer: Any, at: NDArray, factors: NDArray) -> Any:
    """Brings the indexed rows into the cache: float32 rows stay where they are, others become unit rows in `buffer`.

    Sets where each row is (`at`), and the factor that makes it a unit row in units of the grid.
    """
    touched = np.float32(0)
    for q in range(len(index)):
        if buffer is None:
            touched += _touch(x[index[q]])
            at[q], factors[q] = index[q], scales[index[q]]
        else:
            _normalise(x, index[q], scales[index[q]], buffer[q])
            at[q], factors[q] = q, 1
    return touched


def _rows(x: Any, buffer: Any) -> Any:
    """Where `fetch` left the rows."""


@overload(_rows)
def _typed_rows(x, buffer):  # type: ignore[no-untyped-def]  # numba compares the names as they stand
    if isinstance(buffer, types.NoneType):
        return lambda x, buffer: x
    return lambda x, buffer: buffer


@njit(nogil=True, cache=True, inline="always")
def multiply(
    rows: NDArray, at: NDArray, first: Any, panels: NDArray, p: Any, widths: NDArray, products: NDArray
) -> None:
    """Dot products of the `ROWS` rows from `first` on with the centroids of panel p; (P, ROWS, LANES)."""
    if widths[p] > LANES // 2:
        _tile16(rows, at, first, panels, p, products)
    else:
        _tile8(rows, at, first, panels, p, products)


@njit(nogil=True, cache=True)
def _compare(
    rows: NDArray,
    at: NDArray[np.int64],
    factors: NDArray[np.float32],
    listed: NDArray[np.int64],
    centroids: Centroids,
    p: int,
    found: _Found,
) -> None:
    """Compares the listed rows of a block with the centroids of panel p."""
    packed, products = found.packed, found.products
    for q in range(0, len(listed), ROWS):
        for r in range(ROWS):
            packed[r] = at[listed[min(q + r, len(listed) - 1)]]
        multiply(rows, packed, 0, centroids.panels, p, centroids.widths, products)
        for r in range(min(ROWS, len(listed) - q)):
            best, second, lane = np.float32(-np.inf), np.float32(-np.inf), 0
            for c in range(centroids.widths[p]):
                value = products[p, r, c]
                second = max(second, min(best, value))
                if value > best:
                    lane = c
                best = max(best, value)
            i = listed[q + r]
            unit = factors[i] * UNIT
            found.top[i, p], found.second[i, p] = best * unit, second * unit
            found.nearest[i, p], found.known[i, p] = centroids.members[p, lane], True


@njit(nogil=True, cache=True)
def _select(start: int, state: Members, centroids: Centroids, index: NDArray[np.int64], count: int) -> tuple[int, int]:
    """Lists the next rows whose cluster may be another one by now from index[count] on.

    Returns the end of the list, and the row to go on with.
    """
    i = start
    while i < len(state.labels) and len(index) > count:
        own = state.labels[i]
        sure = own >= 0
        if sure:
            for p in range(len(centroids.widths)):
                sure &= np.float64(state.lower[i]) - state.upper[i, p] > centroids.drift[own, p]
        if not sure:
            index[count] = i
            count += 1
        i += 1
    return count, i


@njit(nogil=True, cache=True, fastmath={"nnan", "nsz"})
def _sift(index: NDArray[np.int64], start: int, end: int, state: Members, centroids: Centroids, found: _Found) -> int:
    """Of the rows index[start:end] leaves those whose cluster may be another one by their sketches; how many there are.

    Sets for each which panels may hold its nearest centroid.
    """
    widths, outside, error = centroids.widths, centroids.outside, centroids.sketch_error
    P, S, count = len(widths), state.sketches.shape[1], start
    packed, upper, tops = found.packed, found.products, np.empty(P, np.float32)
    for q in range(start, end, ROWS):
        for r in range(ROWS):
            packed[r] = index[min(q + r, end - 1)]
        for p in range(P):
            multiply(state.sketches, packed, 0, centroids.sketches, p, widths, upper)
        for r in range(min(ROWS, end - q)):
            i, other, own_upper, own_lower = packed[r], -NOWHERE, -NOWHERE, -NOWHERE
            own, beyond = state.labels[i], state.sketches[i, S - 1]
            home, lane = (centroids.panel_of[own], centroids.lane_of[own]) if own >= 0 else (-1, 0)
            if own >= 0:
                own_upper = upper[home, r, lane]
                own_lower = own_upper - outside[home, lane] * beyond
                upper[home, r, lane] = -NOWHERE
                state.lower[i] = max(state.lower[i], own_lower - (error + SLACK) + centroids.own_drift[own])
            for p in range(P):
                top = -NOWHERE
                for c in range(LANES):
                    top = max(top, upper[p, r, c])
                tops[p], other = top, max(other, top)
                if own >= 0:
                    drift = centroids.drift[own, p] - centroids.own_drift[own]
                    state.upper[i, p] = min(state.upper[i, p], tops[p] + (error + SLACK) - drift)
            if own_lower - error <= other + error:
                lowest = own_lower
                for p in range(P):
                    for c in range(LANES):
                        lowest = max(lowest, upper[p, r, c] - outside[p, c] * beyond)
                for p in range(P):
                    top = max(tops[p], own_upper) if p == home else tops[p]
                    found.possible[count, p] = top + error >= lowest - error
                index[count] = i
                count += 1
    return count


@njit(nogil=True, cache=True)
def _search(
    rows: NDArray,
    at: NDArray[np.int64],
    factors: NDArray[np.float32],
    index: NDArray[np.int64],
    state: Members,
    centroids: Centroids,
    found: _Found,
) -> None:
    """Compares the rows of a block with their own panel, then with those panels that could hold a nearer centroid."""
    listed = np.empty(len(index), np.int64)
    found.known[: len(index)] = False
    for others in range(2 if len(centroids.widths) > 1 else 1):
        for p in range(len(centroids.widths)):
            count = 0
            for q in range(len(index)):
                own = state.labels[index[q]]
                panel = centroids.panel_of[own] if own >= 0 else p
                if others:
                    upper = state.upper[index[q], p] + centroids.panel_drift[p]
                    wanted = own >= 0 and not found.known[q, p] and found.possible[q, p]
                    wanted &= found.top[q, panel] - 2 * centroids.error <= upper
                else:
                    wanted = panel == p and (own >= 0 or found.possible[q, p])
                if wanted:
                    listed[count] = q
                    count += 1
            if count:
                _compare(rows, at, factors, listed[:count], centroids, p, found)


@njit(nogil=True, cache=True)
def _decide(rows: NDArray, at: NDArray, factors: NDArray, centroids: Centroids, found: _Found, new: NDArray) -> None:
    """The nearest centroid of each row of a block; ties go to the lowest cluster.

    Where float32 cannot tell, `found.known` becomes False for all panels.
    """
    widths, members, exact, error = centroids.widths, centroids.members, centroids.exact, centroids.error
    for q in range(len(new)):
        best, second = np.float32(-np.inf), np.float32(-np.inf)
        for p in range(len(widths)):
            if found.known[q, p]:
                second = max(second, found.second[q, p], min(best, found.top[q, p]))
                if found.top[q, p] > best:
                    best, new[q] = found.top[q, p], found.nearest[q, p]
        if best - second <= 2 * error:
            highest, own = -np.inf, np.int64(-1)
            for p in range(len(widths)):
                if found.known[q, p] and found.top[q, p] >= best - 2 * error:
                    for c in range(widths[p]):
                        j = members[p, c]
                        similarity = _exact(rows[at[q]], factors[q], exact[j])
                        if similarity > highest or (similarity == highest and j < own):
                            highest, own = similarity, j
            new[q] = own
            found.known[q] = False


@njit(nogil=True, cache=True)
def _remember(index: NDArray, new: NDArray, state: Members, centroids: Centroids, found: _Found) -> None:
    """The bounds of the rows of a block."""
    widths, error = centroids.widths, centroids.error + SLACK
    for q in range(len(index)):
        i, own = index[q], new[q]
        home = centroids.panel_of[own]
        if not found.known[q, home]:
            state.lower[i], state.upper[i] = NEVER, FAR
            continue
        state.lower[i] = found.top[q, home] - error + centroids.own_drift[own]
        for p in range(len(widths)):
            if found.known[q, p]:
                other = found.second[q, p] if p == home else found.top[q, p]
                state.upper[i, p] = other + error - (centroids.drift[own, p] - centroids.own_drift[own])


@njit(nogil=True, cache=True)
def assign(
    x: NDArray,
    scales: NDArray,
    buffer: Any,
    centroids: Centroids,
    state: Members,
    sums: NDArray[np.int64],
    counts: NDArray[np.int64],
) -> tuple[int, Any]:
    """The NN rule (9) for all rows; adds to sums and counts what that changes.

    Args:
        x: (N, D) features: float32, float64, or 16 bits (see `_number`).
        scales: (N,) what makes a row a unit row in units of the grid.
        buffer: (M, D) float32 for the rows of a block; None where x is float32.
        centroids: where to.
        state: updated.
        sums: (K, D) in units of the grid.
        counts: (K,).

    Returns:
        How many rows were looked at; and a number of no meaning, for which they are brought into the cache.
    """
    D, (K, P) = x.shape[1], (len(centroids.exact), len(centroids.widths))
    M = max(ROWS, BLOCK_BYTES // (4 * D))
    index, at, factors = np.empty(M, np.int64), np.empty(M, np.int64), np.empty(M, np.float32)
    floats, best = (np.empty((M, P), np.float32), np.empty((M, P), np.float32)), np.empty((M, P), np.int64)
    masks, scratch = (np.empty((M, P), np.bool_), np.ones((M, P), np.bool_)), np.full((P, ROWS, LANES), -NOWHERE)
    found = _Found(floats[0], floats[1], best, masks[0], masks[1], np.zeros(ROWS, np.int64), scratch)
    small, terms, new = np.zeros((K, D), np.int32), np.zeros(K, np.int64), np.empty(M, np.int64)
    labels, position, looked, touched = state.labels, 0, 0, np.float32(0)
    while position < len(x):
        count = 0
        while position < len(x) and 2 * count < M:
            start = count
            count, position = _select(position, state, centroids, index, count)
            if state.sketches.shape[1]:
                count = _sift(index, start, count, state, centroids, found)
        touched += fetch(x, scales, index[:count], buffer, at, factors)
        rows = _rows(x, buffer)
        _search(rows, at, factors, index[:count], state, centroids, found)
        _decide(rows, at, factors, centroids, found, new[:count])
        _remember(index[:count], new, state, centroids, found)
        for q in range(count):
            i, old, own = index[q], labels[index[q]], new[q]
            if own != old:
                if old >= 0:
                    terms[old] = _add(rows[at[q]], factors[q], np.int32(-1), small[old], sums[old], terms[old])
                    counts[old] -= 1
                terms[own] = _add(rows[at[q]], factors[q], np.int32(1), small[own], sums[own], terms[own])
                counts[own] += 1
                labels[i] = own
        looked += count
    for j in range(K):
        _flush(small[j], sums[j])
    return looked, touched


@njit(nogil=True, cache=True)
def products(
    x: NDArray, scales: NDArray, buffer: Any, panels: NDArray[np.float32], widths: NDArray[np.int64], out: NDArray
) -> None:
    """Similarities (N, K) of all rows to all centroids in float32: those of panel p from column p * LANES on."""
    D, N = x.shape[1], len(x)
    M = max(ROWS, BLOCK_BYTES // (4 * D) // ROWS * ROWS)
    index, at, factors = np.empty(M, np.int64), np.empty(M, np.int64), np.empty(M, np.float32)
    found = np.empty((len(widths), ROWS, LANES), np.float32)
    for start in range(0, N, M):
        for q in range(M):
            index[q] = min(start + q, N - 1)
        fetch(x, scales, index, buffer, at, factors)
        rows = _rows(x, buffer)
        for p in range(len(widths)):
            for q in range(0, min(M, N - start), ROWS):
                multiply(rows, at, q, panels, p, widths, found)
                for r in range(min(ROWS, N - start - q)):
                    for c in range(widths[p]):
                        out[start + q + r, p * LANES + c] = found[p, r, c] * factors[q + r] * UNIT
