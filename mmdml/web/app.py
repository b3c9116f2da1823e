"""The application: galleries in, pages and API out."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount
from starlette.staticfiles import StaticFiles
from starlette.templating import Jinja2Templates

from mmdml.utils.names import printable
from mmdml.version import __version__
from mmdml.web.api import Api
from mmdml.web.decoder import Decoder
from mmdml.web.galleries import Gallery
from mmdml.web.marks import Marks
from mmdml.web.pages import Pages
from mmdml.web.security import Security, check_token
from mmdml.web.service import Service
from mmdml.web.uploads import DEFAULT_LIMITS, UploadLimits

_HERE = Path(__file__).parent


def create_app(
    galleries: Sequence[Gallery],
    marks: str | Path,
    token: str | None = None,
    limits: UploadLimits = DEFAULT_LIMITS,
    decoder: Decoder | None = None,
) -> Starlette:
    """Make the application that serves some galleries.

    Args:
        galleries: stores with their models, each with another name.
        marks: file for what users mark as right or wrong.
        token: that requests must bring; None for none, which is for servers that only this machine reaches.
        limits: of uploads.
        decoder: decodes pictures. Default: one with its own bounds.

    Raises:
        ValueError: no gallery, or two of one name; a file that holds something else than marks; a token that is empty
            or no ASCII.
    """
    check_token(token)
    service = Service(galleries, decoder or Decoder(), Marks(marks))
    templates = Jinja2Templates(_HERE / 'templates')
    templates.env.trim_blocks = templates.env.lstrip_blocks = True
    templates.env.globals.update(version=__version__, max_bytes=limits.max_bytes, max_megabytes=f'{limits.megabytes:g}')
    templates.env.filters['shown'] = printable

    @asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        await run_in_threadpool(service.close)

    async def failed(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        detail = error.detail if isinstance(error, HTTPException) else 'the server failed; its log has the reason'
        # Such as the methods that an address allows.
        headers = dict(getattr(error, 'headers', None) or {})
        # The rest of an upload that was cut off is not waited for.
        headers |= {'Connection': 'close'} if status in (408, 413) else {}
        if request.url.path.startswith('/api/'):
            return JSONResponse(dict(error=detail), status, headers)
        context = dict(detail=detail, status=status)
        if 'hx-request' not in request.headers:
            return templates.TemplateResponse(request, 'error.html', context, status, headers)
        # A refused upload leaves the page as it is.
        place = '#upload-error' if request.url.path == '/queries' else 'main'
        headers |= {'HX-Retarget': place, 'HX-Reswap': 'innerHTML', 'HX-Push-Url': 'false'}
        name = '_refused.html' if request.url.path == '/queries' else '_error.html'
        return templates.TemplateResponse(request, name, context, status, headers)

    app = Starlette(
        routes=[
            *Pages(service, templates).routes(),
            Mount('/api', routes=Api(service, templates).routes()),
            Mount('/static', StaticFiles(directory=_HERE / 'static')),
        ],
        middleware=[Middleware(Security, token=token)],
        exception_handlers={HTTPException: failed, Exception: failed},
        lifespan=lifespan,
    )
    app.state.limits, app.state.service = limits, service
    return app
