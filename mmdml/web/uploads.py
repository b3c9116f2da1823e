"""Forms with a picture, read within bounds of size, parts and time."""

from dataclasses import dataclass

import anyio
from starlette.datastructures import FormData, UploadFile
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import Message


@dataclass(frozen=True)
class UploadLimits:
    """Bounds of a form.

    Attributes:
        megabytes: of the whole request.
        seconds: until it must be there.
        fields: texts in it.
    """

    megabytes: float = 20
    seconds: float = 60
    fields: int = 50

    @property
    def max_bytes(self) -> int:
        """Bytes of the whole request."""
        return int(self.megabytes * 1_000_000)


DEFAULT_LIMITS = UploadLimits()


@dataclass(frozen=True)
class UploadedForm:
    """The picture of a form, the name of its file, and the texts beside it."""

    data: bytes
    name: str
    values: FormData


async def read_upload(request: Request, limits: UploadLimits) -> UploadedForm:
    """Return the form of a request, whose part ``picture`` is a file.

    What is beyond the size is not read: the count goes on while the request comes in.

    Raises:
        HTTPException: it is too large, too slow, no form, or has no picture.
    """
    form = await read_form(request, limits, files=1)
    try:
        picture = form.get('picture')
        if isinstance(picture, UploadFile) and picture.filename and not picture.size:
            raise HTTPException(400, 'the file is empty; send a picture')
        if not isinstance(picture, UploadFile) or not picture.size:
            raise HTTPException(400, 'the form has no picture: send a file as "picture" (multipart/form-data)')
        return UploadedForm(await picture.read(), picture.filename or '', form)
    finally:
        await form.close()


async def read_form(request: Request, limits: UploadLimits, files: int = 0) -> FormData:
    """Return a form within bounds; without files, all that it holds are texts.

    Raises:
        HTTPException: it is too large, too slow or no form.
    """
    too_large = HTTPException(413, f'the upload is larger than {limits.megabytes:g} MB; make the picture smaller')
    length = request.headers.get('content-length', '0')
    if not length.isdigit() or int(length) > limits.max_bytes:
        raise too_large
    count = 0

    async def receive() -> Message:
        nonlocal count
        message = await request.receive()
        count += len(message.get('body', b''))
        if count > limits.max_bytes:
            raise too_large
        return message

    try:
        with anyio.fail_after(limits.seconds):
            return await Request(request.scope, receive).form(
                max_files=files, max_fields=limits.fields, max_part_size=64 << 10
            )
    except TimeoutError:
        raise HTTPException(408, f'the upload took longer than {limits.seconds:g} s') from None
    except HTTPException as error:
        # The parser's own, for too many parts and for what is no form.
        raise HTTPException(error.status_code, error.detail) from None
