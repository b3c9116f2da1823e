"""What pages and API have in common: pictures, searches and what is kept of them."""

import hashlib
import io
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from starlette.exceptions import HTTPException

from mmdml.index import Row
from mmdml.utils.image_files import require_regular
from mmdml.utils.names import printable
from mmdml.web.decoder import Decoder, UnreadablePicture
from mmdml.web.galleries import Gallery, Hit
from mmdml.web.map_points import MapPoints
from mmdml.web.marks import Mark, Marks
from mmdml.web.recent import Recent
from mmdml.web.search_request import SearchRequest, chosen

#: Longest side of a query that is kept, in pixels.
QUERY_SIDE = 1600
#: Longest sides of the pictures that are served.
PICTURE_SIDES = (320, 1200)
# Bytes of a gallery's picture file that is read at most.
_MAX_FILE = 64 << 20


@dataclass(frozen=True)
class Upload:
    """A picture that a user gave: pixels ``(H, W, 3)`` in the order red, green, blue."""

    name: str
    pixels: np.ndarray
    digest: str


@dataclass(frozen=True)
class Found:
    """Results of one gallery, or why there are none."""

    gallery: Gallery
    hits: Sequence[Hit]
    error: str = ''


class Service:
    """Search galleries by uploaded pictures and by their own rows.

    Args:
        galleries: to search, each with another name.
        decoder: decodes pictures.
        marks: keeps what users called right or wrong.
        upload_bytes: memory for the pictures of users; the last ones are kept.
    """

    def __init__(
        self, galleries: Sequence[Gallery], decoder: Decoder, marks: Marks, upload_bytes: int = 256 << 20
    ) -> None:
        self.galleries = {each.name: each for each in galleries}
        if len(self.galleries) != len(galleries) or not galleries:
            raise ValueError(f'{len(galleries)} stores need as many names, at least one; got {list(self.galleries)}')
        self.decoder, self.marks, self.maps = decoder, marks, MapPoints()
        self._uploads: Recent[Upload] = Recent(upload_bytes)
        self._vectors: Recent[np.ndarray] = Recent(16 << 20)
        self._pictures: Recent[bytes] = Recent(128 << 20)

    def add_upload(self, data: bytes, name: str) -> str:
        """Keep a picture, and return the id by which searches name it.

        Raises:
            HTTPException: it cannot be decoded within the bounds.
        """
        pixels = self._decode(data, f'{printable(name)[:100]!r} was refused')
        digest = hashlib.blake2b(pixels.tobytes() + repr(pixels.shape).encode(), digest_size=16).hexdigest()
        id = secrets.token_urlsafe(12)
        self._uploads.put(id, Upload(printable(name)[:200] or 'picture', pixels, digest), pixels.nbytes)
        return id

    def upload(self, id: str) -> Upload:
        """Return a picture that a user gave.

        Raises:
            HTTPException: it is not or no longer there.
        """
        found = self._uploads.get(id)
        if found is None:
            raise HTTPException(410, 'this picture is no longer kept; choose it again')
        return found

    def query_jpeg(self, request: SearchRequest) -> bytes:
        """Return the picture of a query, cut to its region, as JPEG."""
        file = io.BytesIO()
        Image.fromarray(self.query_pixels(request)).save(file, 'JPEG', quality=90)
        return file.getvalue()

    def gallery(self, name: str) -> Gallery:
        """Return a gallery by its name.

        Raises:
            HTTPException: there is none.
        """
        return self.galleries[chosen([name], list(self.galleries))[0]]

    def row(self, gallery: str, id: int) -> Row:
        """Return a row.

        Raises:
            HTTPException: there is none.
        """
        row = self.gallery(gallery).row(id)
        if row is None:
            raise HTTPException(404, f'{gallery} has no row {id}')
        return row

    def search(self, request: SearchRequest) -> list[Found]:
        """Return the nearest rows of each gallery, a sample of each where there is no query.

        Raises:
            HTTPException: the query is not there or cannot be read.
        """
        galleries = [self.galleries[name] for name in chosen(request.galleries, list(self.galleries))]
        if request.is_empty:
            return [Found(each, each.sample(2 * request.k, request.labels)) for each in galleries]
        if request.row is not None:
            self.row(*request.row)
        else:
            self.upload(request.upload)
        return [self._search_one(each, request) for each in galleries]

    def _search_one(self, gallery: Gallery, request: SearchRequest) -> Found:
        own = request.row is not None and request.row[0] == gallery.name
        without = request.row[1] if own else None
        try:
            whole = own and request.crop is None
            vector = gallery.store.vectors([without]) if whole else self._vector(gallery, request)
            return Found(gallery, gallery.nearest(vector, request.k, request.labels, without))
        except ValueError as error:  # the model does not take the picture, or the store was damaged
            return Found(gallery, [], f'No results: {error}')
        except HTTPException as error:
            return Found(gallery, [], error.detail)

    def _vector(self, gallery: Gallery, request: SearchRequest) -> np.ndarray:
        # Uploads are equal where their pixels are.
        picture = request.row if request.row is not None else self.upload(request.upload).digest
        key = gallery.model_hash, picture, request.crop
        vector = self._vectors.get(key)
        if vector is None:
            vector = gallery.vector(self.query_pixels(request))
            self._vectors.put(key, vector, vector.nbytes)
        return vector

    def query_pixels(self, request: SearchRequest) -> np.ndarray:
        """Return the picture of a query, cut to its region, ``(H, W, 3)`` in the order red, green, blue."""
        if request.row is None:
            pixels = self.upload(request.upload).pixels
        else:
            row = self.row(*request.row)
            data = read_picture_file(row)
            if data is None:
                raise HTTPException(410, f'the file of row {row.id} is gone or was changed since it was embedded')
            pixels = self._decode(data, f'the file of row {row.id} was refused')
        return pixels if request.crop is None else pixels[request.crop.box(*pixels.shape[1::-1])]

    def picture(self, gallery: str, id: int, side: int) -> bytes | None:
        """Return the picture of a row as a new JPEG, None where its file is gone, changed or unreadable."""
        row = self.row(gallery, id)
        try:
            state = os.stat(row.item.path)
        except (OSError, ValueError):
            return None
        # What was made of a file stands for it as long as it is the same.
        key = gallery, id, side, state.st_ino, state.st_size, state.st_mtime_ns
        found = self._pictures.get(key)
        if found is None:
            data = read_picture_file(row)
            if data is None:
                return None
            try:
                found = self.decoder.jpeg(data, side)
            except UnreadablePicture:
                return None
            self._pictures.put(key, found, len(found))
        return found

    def marks_of(self, request: SearchRequest) -> dict[str, dict[str, bool]]:
        """Return the marks of a query: gallery -> path -> whether it is right."""
        if request.is_empty:
            return {}
        query = self._query_name(request)
        return {name: self.marks.of(each.address, query) for name, each in self.galleries.items()}

    def mark(self, request: SearchRequest, gallery: str, id: int, is_right: bool | None) -> None:
        """Mark a result of a query as right or wrong, or take the mark away with None.

        Raises:
            HTTPException: the query or the row is not there.
        """
        item, query = self.row(gallery, id).item, self._query_name(request)
        address = self.gallery(gallery).address
        if is_right is None:
            self.marks.remove(address, query, item.path)
            return
        label = self.row(*request.row).item.label if request.row is not None else ''
        jpeg = self.query_jpeg(request) if query.startswith('uploads/') else None
        self.marks.set(Mark(address, query, item.path, is_right, label, item.label), jpeg)

    def _query_name(self, request: SearchRequest) -> str:
        """Return the path of a row; uploads and regions are named by what they show."""
        if request.row is not None:
            path = self.row(*request.row).item.path
            if request.crop is None:
                return path
            shown = hashlib.blake2b(os.fsencode(path), digest_size=16).hexdigest()
        else:
            shown = self.upload(request.upload).digest
        region = '' if request.crop is None else f'_{request.crop}'
        return f'uploads/{shown}{region}.jpg'

    def _decode(self, data: bytes, what: str) -> np.ndarray:
        try:
            return self.decoder.pixels(data, QUERY_SIDE)
        except UnreadablePicture as error:
            raise HTTPException(422, f'{what}: {error}') from None

    def close(self) -> None:
        """Close stores and end processes."""
        self.decoder.close()
        self.maps.close()
        self.marks.close()
        for each in self.galleries.values():
            each.close()


def read_picture_file(row: Row) -> bytes | None:
    """Return the file of a row, None if it is gone, no regular file, or another than the one that was embedded."""
    item = row.item
    try:
        require_regular(item.path, there=True)
        with open(item.path, 'rb') as file:
            data = file.read(_MAX_FILE + 1)
    except (OSError, ValueError):
        return None
    if len(data) > _MAX_FILE or item.size and len(data) != item.size:
        return None
    if item.content_hash and hashlib.blake2b(data, digest_size=16).hexdigest() != item.content_hash:
        return None
    return data
