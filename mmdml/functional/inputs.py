"""What users hand to the evaluation functions, made uniform and checked."""

import warnings
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmdml.utils.arrays import plain_strings, rows_beyond_fp64

# Whole numbers of these types need not be numbers of fp32, which has all of up to 2^24.
_WIDE = (torch.float64, torch.int64, torch.uint64, torch.int32, torch.uint32)


def to_matrix(name: str, rows: Tensor | np.ndarray, device: str | torch.device | None) -> Tensor:
    """``(N, D)`` embeddings as a tensor of fp32, or of fp64 if they come so or as wide integers, and the device has it.

    The tensor may share its memory with ``rows``, also where these are read-only: it is not to be written to.

    Raises:
        ValueError: if they are no matrix, rows without dimensions, masked, or whole numbers beyond fp64.
        TypeError: if they are no numbers.
    """
    _refuse_masked(name, rows)
    if not isinstance(rows, Tensor):
        rows = _as_tensor(name, np.asarray(rows))
    if rows.ndim != 2:
        raise ValueError(f'{name} must be a matrix (N, D), got shape {tuple(rows.shape)}')
    if len(rows) and rows.shape[1] == 0:
        raise ValueError(f'{name} embeddings have no dimensions: shape (N, 0)')
    if rows.is_complex():
        raise TypeError(f'{name} must be real numbers, got {rows.dtype}')
    if rows.dtype in (torch.int64, torch.uint64):
        lost = rows_beyond_fp64(rows.numpy(force=True))
        if len(lost):
            raise ValueError(
                f'{name} embeddings have whole numbers beyond 2**53, which fp64 does not tell apart, in {len(lost)} of '
                f'{len(rows)} rows, the first is {lost[0]}: scale them, or convert them to fp64 yourself'
            )
    device = rows.device if device is None else torch.device(device)
    # The type first: MPS refuses to take fp64.
    return rows.detach().to(precision_on(device, rows.dtype)).to(device)


def _as_tensor(name: str, rows: np.ndarray) -> Tensor:
    """Numbers of any layout, byte order and precision."""
    if rows.dtype.kind not in 'fiub':
        raise TypeError(f'{name} must be numbers, got {rows.dtype}')
    if rows.dtype.kind == 'f' and rows.dtype.itemsize > 8:
        rows = rows.astype(np.float64)
    # torch takes no views of numpy that run backwards, and no foreign byte order.
    rows = np.ascontiguousarray(rows, dtype=rows.dtype.newbyteorder('='))
    with warnings.catch_warnings():
        # Read-only arrays, as pyarrow and np.load(mmap_mode='r') return them.
        warnings.filterwarnings('ignore', message='The given NumPy array is not writable', category=UserWarning)
        return torch.from_numpy(rows)


def precision_on(device: torch.device, dtype: torch.dtype) -> torch.dtype:
    """Return what embeddings of a type are computed in: fp32, or fp64 if it does not hold them; MPS has no fp64."""
    return torch.float64 if dtype in _WIDE and device.type != 'mps' else torch.float32


def _refuse_masked(name: str, values: Any) -> None:
    if np.ma.is_masked(values):
        raise ValueError(
            f'{name} have {np.ma.count_masked(values)} masked entries, which would be read: leave them out'
        )


def check_finite(name: str, rows: Tensor) -> None:
    """Raise ValueError that names the first rows with NaN or infinity."""
    # One pass tells of most that there is nothing to say: a sum is finite only if all its terms are.
    if torch.isfinite(rows.sum()):
        return
    bad = (~torch.isfinite(rows).all(1)).nonzero().squeeze(1).tolist()
    if bad:
        first = ', '.join(map(str, bad[:5])) + (', ...' if len(bad) > 5 else '')
        raise ValueError(f'{name} embeddings are not finite (NaN or inf) in {len(bad)} of {len(rows)} rows: {first}')


def to_sides(
    query: Tensor | np.ndarray, gallery: Tensor | np.ndarray | None, device: str | torch.device | None
) -> tuple[Tensor, Tensor]:
    """Query and gallery as finite matrices of one type on one device; the same tensor twice without a gallery.

    Raises:
        ValueError: if one is no matrix, empty or not finite, or their widths differ.
    """
    query = to_matrix('query', query, device)
    own_gallery = gallery is None
    gallery = query if own_gallery else to_matrix('gallery', gallery, query.device)
    if len(gallery) == 0:
        raise ValueError('the gallery is empty: there is nothing to search')
    if len(query) == 0:
        raise ValueError('there are no queries')
    if query.shape[1] != gallery.shape[1]:
        raise ValueError(f'query has {query.shape[1]} dimensions, the gallery {gallery.shape[1]}')
    check_finite('query', query)
    if own_gallery:
        return query, query
    check_finite('gallery', gallery)
    dtype = torch.promote_types(query.dtype, gallery.dtype)
    return query.to(dtype), gallery.to(dtype)


def encode(
    name: str, query_keys: Any, gallery_keys: Any | None, query: Tensor, gallery: Tensor
) -> tuple[Tensor, Tensor]:
    """Labels or ids of both sides as int64 codes, equal where the keys are.

    Integers never pass through a float type: 2**53 + 1 differs from 2**53.

    Args:
        name: 'labels' or 'ids', for messages.
        query_keys: ``(Q,)`` ints or strings.
        gallery_keys: ``(G,)``, or None for the query's own.
        query: the embeddings that ``query_keys`` belong to.
        gallery: the embeddings that ``gallery_keys`` belong to.

    Raises:
        TypeError: if keys are neither integers nor strings, or not the same on both sides.
        ValueError: if their number differs from that of the embeddings.
    """
    sides = [to_keys(f'query_{name}', query_keys, len(query))]
    if gallery_keys is not None:
        sides.append(to_keys(f'gallery_{name}', gallery_keys, len(gallery)))
        if sides[0].dtype.kind != sides[1].dtype.kind:
            raise TypeError(f'query_{name} are {sides[0].dtype}, gallery_{name} {sides[1].dtype}: nothing would match')
    codes = np.unique(np.concatenate(sides), return_inverse=True)[1].reshape(-1)
    codes = torch.from_numpy(codes.astype(np.int64)).to(query.device)
    return codes[: len(query)], codes if gallery_keys is None else codes[len(query) :]


def to_keys(name: str, keys: Any, rows: int) -> np.ndarray:
    """Keys as a vector of int64 or str; bytes are read as UTF-8.

    Raises:
        TypeError: if they are neither integers nor strings.
        ValueError: if they are not one for each of the rows, not UTF-8, too large, or masked.
    """
    _refuse_masked(name, keys)
    # numpy cannot even hold bfloat16 to complain about it.
    is_float = isinstance(keys, Tensor) and keys.is_floating_point()
    if not is_float:
        keys = plain_strings(np.asarray(keys.detach().cpu() if isinstance(keys, Tensor) else keys))
    if is_float or keys.dtype.kind not in 'iubUS':
        raise TypeError(f'{name} must be integers or strings, got {keys.dtype}')
    if keys.shape != (rows,):
        raise ValueError(f'{name} must have shape ({rows},), one per embedding, got {keys.shape}')
    if keys.dtype == np.uint64 and (keys > np.iinfo(np.int64).max).any():
        raise ValueError(f'{name} must fit int64, got {keys.max()}')
    if keys.dtype.kind != 'S':
        return keys.astype(np.int64) if keys.dtype.kind in 'iub' else keys
    try:
        return np.char.decode(keys, 'utf-8')
    except UnicodeDecodeError as error:
        raise ValueError(f'{name} are bytes, and not UTF-8 ({error})') from None
