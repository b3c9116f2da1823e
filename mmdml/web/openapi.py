"""The OpenAPI document of the JSON API."""

from functools import cache
from typing import Any

from mmdml.version import __version__


def _parameter(name: str, place: str, kind: str, text: str) -> dict[str, Any]:
    schema = dict(type='array', items=dict(type='string')) if kind == 'strings' else dict(type=kind)
    return {'name': name, 'in': place, 'required': place == 'path', 'schema': schema, 'description': text}


_STORE = _parameter('store', 'path', 'string', 'Name of a store.')
_ID = _parameter('id', 'path', 'integer', 'Id of a row.')
_CROP = 'Region of the query, "left,top,width,height" in shares of 0..1.'
_FILTERS = [
    _parameter('k', 'query', 'integer', 'Number of results, 1..1000; default 12.'),
    _parameter('label', 'query', 'strings', 'Labels that results must have; may be repeated.'),
    _parameter('crop', 'query', 'string', _CROP),
]
_RESULT = {
    'type': 'object',
    'properties': {
        'id': {'type': 'integer'},
        'path': {'type': 'string'},
        'label': {'type': 'string'},
        'metadata': {'type': 'object', 'additionalProperties': {'type': 'string'}},
        'score': {'type': 'number', 'description': 'Cosine similarity in -1..1.'},
        'picture': {'type': 'string', 'description': 'Address of the picture, re-encoded.'},
    },
}


def _answer(schema: dict[str, Any], *errors: str) -> dict[str, Any]:
    reasons = {'400': 'A parameter is wrong.', '404': 'No such store or row.', '413': 'The upload is too large.'}
    reasons['202'] = 'The map is being computed: come again.'
    reasons['422'] = 'The picture cannot be read.'
    answers = {'200': {'description': 'Found.', 'content': {'application/json': {'schema': schema}}}}
    failed = {'application/json': {'schema': {'$ref': '#/components/schemas/Error'}}}
    answers.update({each: {'description': reasons[each], 'content': failed} for each in errors})
    return answers


def _list(name: str, item: dict[str, Any]) -> dict[str, Any]:
    return {'type': 'object', 'properties': {name: {'type': 'array', 'items': item}}}


_MAP = {
    'type': 'object',
    'properties': {
        'store': {'type': 'string'},
        'about': {'type': 'string', 'description': 'What the axes are.'},
        'count': {'type': 'integer', 'description': 'Rows of the store.'},
        'labels': {'type': 'array', 'items': {'type': 'string'}},
        'points': {
            'type': 'array',
            'items': {'type': 'array', 'items': {'type': 'number'}},
            'description': 'Id, x and y in 0..1, and number of the label, -1 for none.',
        },
    },
}
_RESULTS = _list('results', {'$ref': '#/components/schemas/Result'})
_SEARCH_FORM = {
    'type': 'object',
    'required': ['picture'],
    'properties': {
        'picture': {'type': 'string', 'format': 'binary', 'description': 'JPEG, PNG, WebP, GIF, BMP, TIFF or AVIF.'},
        'k': {'type': 'integer', 'description': 'Number of results, 1..1000; default 12.'},
        'label': {'type': 'array', 'items': {'type': 'string'}, 'description': 'Labels that results must have.'},
        'crop': {'type': 'string', 'description': _CROP},
    },
}


@cache
def openapi() -> dict[str, Any]:
    """Return the document."""
    stores = _list('stores', {'$ref': '#/components/schemas/Store'})
    label = {'type': 'object', 'properties': {'label': {'type': 'string'}, 'count': {'type': 'integer'}}}
    texts = dict(
        name='string', title='string', count='integer', dimensions='integer', model='string', model_hash='string'
    )
    return {
        'openapi': '3.1.0',
        'info': {'title': 'mmdml search', 'version': __version__, 'description': 'Search galleries by pictures.'},
        'paths': {
            '/api/stores': {'get': {'summary': 'List the stores.', 'responses': _answer(stores)}},
            '/api/stores/{store}/labels': {
                'get': {
                    'summary': 'List the labels of a store.',
                    'parameters': [_STORE],
                    'responses': _answer(_list('labels', label), '404'),
                }
            },
            '/api/stores/{store}/map': {
                'get': {
                    'summary': 'Return up to 4,000 rows as points in the plane.',
                    'parameters': [_STORE, _parameter('method', 'query', 'string', '"pca" (default) or "umap".')],
                    'responses': _answer(_MAP, '202', '400', '404'),
                }
            },
            '/api/stores/{store}/search': {
                'post': {
                    'summary': 'Return the rows nearest to a picture.',
                    'parameters': [_STORE],
                    'requestBody': {'required': True, 'content': {'multipart/form-data': {'schema': _SEARCH_FORM}}},
                    'responses': _answer(_RESULTS, '400', '404', '413', '422'),
                }
            },
            '/api/stores/{store}/rows/{id}': {
                'get': {
                    'summary': 'Return a row.',
                    'parameters': [_STORE, _ID],
                    'responses': _answer({'$ref': '#/components/schemas/Result'}, '400', '404'),
                }
            },
            '/api/stores/{store}/rows/{id}/similar': {
                'get': {
                    'summary': 'Return the rows nearest to a row, without it.',
                    'parameters': [_STORE, _ID, *_FILTERS],
                    'responses': _answer(_RESULTS, '400', '404', '422'),
                }
            },
        },
        'components': {
            'schemas': {
                'Store': {'type': 'object', 'properties': {name: {'type': kind} for name, kind in texts.items()}},
                'Result': _RESULT,
                'Error': {'type': 'object', 'properties': {'error': {'type': 'string'}}},
            }
        },
    }
