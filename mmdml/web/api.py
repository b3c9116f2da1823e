"""The JSON API: what the page can do, for programs."""

from collections.abc import Sequence
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import ImmutableMultiDict
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.templating import Jinja2Templates

from mmdml.utils.names import printable
from mmdml.utils.near_names import did_you_mean
from mmdml.web.galleries import Gallery, Hit
from mmdml.web.openapi import openapi
from mmdml.web.search_request import SearchRequest, parse_number
from mmdml.web.service import Service
from mmdml.web.uploads import read_upload

# Seconds that a request waits for a map before it is answered without.
_MAP_SECONDS = 2.0
_LAST_ID = (1 << 62) - 1
# What a search is limited by, in an address or in a form.
_FILTERS = ('k', 'label', 'crop')


class Api:
    """Handlers of the API.

    Args:
        service: what they serve.
        templates: for the page that describes the API.
    """

    def __init__(self, service: Service, templates: Jinja2Templates) -> None:
        self.service, self.templates = service, templates

    def routes(self) -> list[Route]:
        """Return the addresses below ``/api``."""
        return [
            Route('/', self.page),
            Route('/openapi.json', self.document),
            Route('/stores', self.stores),
            Route('/stores/{store}/labels', self.labels),
            Route('/stores/{store}/map', self.map),
            Route('/stores/{store}/search', self.search, methods=['POST']),
            Route('/stores/{store}/rows/{id}', self.row),
            Route('/stores/{store}/rows/{id}/similar', self.similar),
        ]

    async def page(self, request: Request) -> Response:
        """Return the page that describes the API."""
        _check_names('address', request.query_params)
        return self.templates.TemplateResponse(request, 'api.html', dict(document=openapi()))

    async def document(self, request: Request) -> Response:
        """Return the OpenAPI document."""
        _check_names('address', request.query_params)
        return JSONResponse(openapi())

    async def stores(self, request: Request) -> Response:
        """List the stores."""
        _check_names('address', request.query_params)

        def listed() -> list[dict[str, Any]]:
            return [_described(each) for each in self.service.galleries.values()]

        return JSONResponse(dict(stores=await run_in_threadpool(listed)))

    async def labels(self, request: Request) -> Response:
        """List the labels of a store with their numbers of rows."""
        _check_names('address', request.query_params)
        gallery = self.service.gallery(request.path_params['store'])
        labels = await run_in_threadpool(gallery.labels)
        return JSONResponse(dict(labels=[dict(label=label, count=count) for label, count in labels.counts.items()]))

    async def map(self, request: Request) -> Response:
        """Return rows of a store as points in the plane."""
        _check_names('address', request.query_params, ['method'])
        gallery, method = self.service.gallery(request.path_params['store']), request.query_params.get('method', 'pca')
        found = await run_in_threadpool(self.service.maps.get, gallery, method, _MAP_SECONDS)
        if found is None:
            return JSONResponse(dict(state='computing'), 202)
        return JSONResponse(found)

    async def search(self, request: Request) -> Response:
        """Return the rows nearest to a picture."""
        _check_names('address', request.query_params, remedy=', put it into the form')
        form = await read_upload(request, request.app.state.limits)
        _check_names('form', form.values, ['picture', *_FILTERS])
        search = SearchRequest.parse(form.values)
        id = await run_in_threadpool(self.service.add_upload, form.data, form.name)
        search = SearchRequest(id, None, search.crop, search.labels, search.k, (request.path_params['store'],))
        return await self._results(search)

    async def row(self, request: Request) -> Response:
        """Return a row."""
        _check_names('address', request.query_params)
        store, id = request.path_params['store'], parse_number('id', request.path_params['id'], 0, _LAST_ID)
        row = await run_in_threadpool(self.service.row, store, id)
        return JSONResponse(_hit(self.service.gallery(store), Hit(row)))

    async def similar(self, request: Request) -> Response:
        """Return the rows nearest to a row, without it."""
        store, id = request.path_params['store'], parse_number('id', request.path_params['id'], 0, _LAST_ID)
        _check_names('address', request.query_params, _FILTERS)
        search = SearchRequest.parse(request.query_params)
        return await self._results(SearchRequest('', (store, id), search.crop, search.labels, search.k, (store,)))

    async def _results(self, search: SearchRequest) -> Response:
        found = (await run_in_threadpool(self.service.search, search))[0]
        if found.error:
            raise HTTPException(422, found.error)
        return JSONResponse(dict(store=found.gallery.name, results=[_hit(found.gallery, each) for each in found.hits]))


def _check_names(place: str, given: ImmutableMultiDict, known: Sequence[str] = (), remedy: str = '') -> None:
    """Check the names of parameters: one that is misspelled would be left out, and the answer that of another question.

    So it would be with one that comes twice; labels may.

    Raises:
        HTTPException: there is no parameter of a name, or it is given twice.
    """
    for name in given:
        # The token is taken off addresses before; a server without one need not mind it.
        if name not in known and name != 'token':
            near = remedy or did_you_mean(name, known) or (f'; there are {", ".join(known)}' if known else '')
            raise HTTPException(400, f'the {place} takes no {name[:50]!r}{near}')
        if name != 'label' and len(given.getlist(name)) > 1:
            raise HTTPException(400, f'the {place} takes {name!r} once')


def _described(gallery: Gallery) -> dict[str, Any]:
    return dict(
        name=gallery.name,
        title=gallery.title,
        count=gallery.store.count(),
        dimensions=gallery.store.dimensions,
        model=gallery.model_name,
        model_hash=gallery.model_hash,
    )


def _hit(gallery: Gallery, hit: Hit) -> dict[str, Any]:
    id = hit.row.id
    score = {} if hit.score is None else dict(score=round(hit.score, 6))
    metadata = {printable(name): printable(text) for name, text in hit.row.item.metadata.items()}
    return dict(
        id=id, path=hit.path, label=hit.label, metadata=metadata, **score, picture=f'/pictures/{gallery.name}/{id}'
    )
