"""Pages: HTML for people, whole or, where htmx asks for it, the part that changes."""

from pathlib import Path
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from mmdml.web.map_points import available_methods
from mmdml.web.search_request import PAGE_SIZES, SearchRequest, parse_number
from mmdml.web.service import PICTURE_SIDES, Service
from mmdml.web.uploads import read_form, read_upload

_PLACEHOLDER = Path(__file__).parent / 'static' / 'missing.svg'
# Labels that the filter proposes at most.
_PROPOSED = 1000
_MARKS = {'right': True, 'wrong': False, 'none': None}


class Pages:
    """Handlers of the pages.

    Args:
        service: what they show.
        templates: how.
    """

    def __init__(self, service: Service, templates: Jinja2Templates) -> None:
        self.service, self.templates = service, templates

    def routes(self) -> list[Route]:
        """Return the addresses of the pages."""
        return [
            Route('/', self.search, name='search'),
            Route('/queries', self.upload, methods=['POST']),
            Route('/queries/{id}/picture', self.query_picture),
            Route('/pictures/{store}/{id}', self.picture),
            Route('/map', self.map),
            Route('/marks', self.marks),
            Route('/marks', self.mark, methods=['POST']),
            Route('/marks.csv', self.pairs),
            Route('/marks.zip', self.pairs_with_uploads),
        ]

    async def search(self, request: Request) -> Response:
        """Return the page that searches."""
        return await run_in_threadpool(self._search_page, request, SearchRequest.parse(request.query_params))

    def _search_page(self, request: Request, search: SearchRequest) -> Response:
        found = self.service.search(search)
        upload = self.service.upload(search.upload) if search.upload else None
        row = self.service.row(*search.row) if search.row is not None else None
        labels: dict[str, int] = {}
        for each in found:
            for label, number in each.gallery.labels().counts.items():
                labels[label] = labels.get(label, 0) + number
        context = dict(
            search=search,
            found=found,
            upload=upload,
            row=row,
            labels=dict(list(labels.items())[:_PROPOSED]),
            galleries=list(self.service.galleries.values()),
            sizes=PAGE_SIZES,
            marked=self.service.marks_of(search),
        )
        return self._answer(request, 'search', context)

    def _answer(self, request: Request, name: str, context: dict[str, Any]) -> Response:
        part = 'hx-request' in request.headers and 'hx-history-restore-request' not in request.headers
        template = f'_{name}.html' if part else f'{name}.html'
        return self.templates.TemplateResponse(request, template, context, headers={'Vary': 'HX-Request'})

    async def upload(self, request: Request) -> Response:
        """Keep a picture and go to the search for it."""
        form = await read_upload(request, request.app.state.limits)
        search = SearchRequest.parse(form.values)
        id = await run_in_threadpool(self.service.add_upload, form.data, form.name)
        address = SearchRequest(upload=id, labels=search.labels, k=search.k, galleries=search.galleries).address()
        return RedirectResponse(address, 303)

    async def query_picture(self, request: Request) -> Response:
        """Return a picture that a user gave."""
        search = SearchRequest(upload=request.path_params['id'])
        data = await run_in_threadpool(self.service.query_jpeg, search)
        return Response(data, media_type='image/jpeg', headers={'Cache-Control': 'private, max-age=3600'})

    async def picture(self, request: Request) -> Response:
        """Return the picture of a row, or one that says that there is none."""
        id = parse_number('row', request.path_params['id'], 0, (1 << 62) - 1)
        side = parse_number('side', request.query_params.get('side', str(PICTURE_SIDES[0])), 1, 10_000)
        if side not in PICTURE_SIDES:
            raise HTTPException(400, f'side={side} must be one of {", ".join(map(str, PICTURE_SIDES))}')
        data = await run_in_threadpool(self.service.picture, request.path_params['store'], id, side)
        if data is None:
            return Response(_PLACEHOLDER.read_bytes(), media_type='image/svg+xml', headers={'X-Picture': 'missing'})
        return Response(data, media_type='image/jpeg', headers={'Cache-Control': 'private, max-age=300'})

    async def map(self, request: Request) -> Response:
        """Return the page with the map of a gallery."""
        galleries = list(self.service.galleries.values())
        gallery = self.service.gallery(request.query_params.get('store', galleries[0].name))
        context = dict(gallery=gallery, galleries=galleries, methods=available_methods())
        return self.templates.TemplateResponse(request, 'map.html', context)

    async def marks(self, request: Request) -> Response:
        """Return the page with the marks."""
        context = dict(marks=self.service.marks.newest(200), count=self.service.marks.count())
        return self.templates.TemplateResponse(request, 'marks.html', context)

    async def mark(self, request: Request) -> Response:
        """Mark a result, and show its buttons anew."""
        form = await read_form(request, request.app.state.limits)
        search = SearchRequest.parse(form)
        if search.is_empty or form.get('mark') not in _MARKS:
            raise HTTPException(400, 'a mark needs query or row, gallery, id, and mark = right, wrong or none')
        gallery, is_right = str(form.get('gallery', '')), _MARKS[form['mark']]
        id = parse_number('id', str(form.get('id', '')), 0, (1 << 62) - 1)
        await run_in_threadpool(self.service.mark, search, gallery, id, is_right)
        if 'hx-request' not in request.headers:
            return RedirectResponse(search.address(), 303)
        context = dict(search=search, gallery=self.service.gallery(gallery), id=id, is_right=is_right)
        return self.templates.TemplateResponse(request, '_mark.html', context)

    async def pairs(self, request: Request) -> Response:
        """Return all marks as a table."""
        data = await run_in_threadpool(self.service.marks.to_csv)
        return _download(data, 'text/csv', 'pairs.csv')

    async def pairs_with_uploads(self, request: Request) -> Response:
        """Return all marks as a table, with the uploads that it names."""
        data = await run_in_threadpool(self.service.marks.to_zip)
        return _download(data, 'application/zip', 'pairs.zip')


def _download(data: bytes, kind: str, name: str) -> Response:
    return Response(data, media_type=kind, headers={'Content-Disposition': f'attachment; filename="{name}"'})
