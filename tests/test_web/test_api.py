"""The JSON API and its description."""

import re

import httpx2
import pytest

from mmdml.web.openapi import openapi


@pytest.fixture(scope='module')
def client(server):
    with httpx2.Client(base_url=server) as client:
        yield client


def test_stores_labels_rows_and_searches(client, color_pictures):
    stores = client.get('/api/stores').json()['stores']
    assert [(each['name'], each['count'], each['dimensions']) for each in stores] == [
        ('toys', 24, 6),
        ('toys-2', 24, 6),
    ]
    labels = client.get('/api/stores/toys/labels').json()['labels']
    assert [(each['label'], each['count']) for each in labels][1:] == [(f'class {n}', 4) for n in range(5, 10)]
    near = client.get('/api/stores/toys/rows/8/similar', params=dict(k=3, label='class 6')).json()['results']
    assert {each['id'] for each in near} == {9, 10, 11} and near[0]['score'] >= near[-1]['score'] > 0
    region = client.get('/api/stores/toys/rows/8/similar', params=dict(k=30, crop='0,0,1,1')).json()['results']
    assert {each['id'] for each in region} == {*range(24)} - {8}  # without it, also by a region of its picture
    file = (color_pictures / 'class 6' / '0.png').read_bytes()
    form = dict(k='2', crop='0,0,1,1')
    found = client.post('/api/stores/toys/search', data=form, files={'picture': ('a.png', file)}).json()
    assert [each['id'] for each in found['results']][0] == 8 and found['results'][0]['score'] == pytest.approx(
        1, abs=1e-4
    )
    assert client.get(found['results'][0]['picture']).content.startswith(b'\xff\xd8')


def test_errors_are_json(client):
    for answer, status in (
        (client.get('/api/stores/none/labels'), 404),
        (client.get('/api/stores/toys/rows/999'), 404),
        (client.get('/api/none'), 404),
        (client.post('/api/stores/toys/search', data=dict(k='2')), 400),
        (client.post('/api/stores/toys/search', files={'picture': b'<html></html>'}), 422),
    ):
        assert (answer.status_code, list(answer.json())) == (status, ['error'])


def test_a_parameter_that_there_is_not_is_refused_and_not_left_out(client, color_pictures):
    file = {'picture': ('a.png', (color_pictures / 'class 6' / '0.png').read_bytes())}
    search, similar = '/api/stores/toys/search', '/api/stores/toys/rows/8/similar'
    for answer, message in (
        (client.post(search, files=file, data=dict(labels='class 6')), "no 'labels'; did you mean 'label'?"),
        (client.post(search, files=file, data=dict(top='5')), "no 'top'; there are picture, k, label, crop"),
        (client.post(search, files=file, params=dict(k='5')), "the address takes no 'k', put it into the form"),
        (client.get('/api/stores/toys/labels', params=dict(limit='5')), "the address takes no 'limit'"),
        (client.get(similar, params=dict(labels='class 6')), "no 'labels'; did you mean 'label'?"),
        (client.get('/api/stores/toys/map', params=dict(methods='pca')), "no 'methods'; did you mean 'method'?"),
        (client.get('/api/openapi.json', params=dict(v='3')), "the address takes no 'v'"),
        (client.get(similar, params=[('k', '2'), ('k', '3')]), "the address takes 'k' once"),
        (client.post(search, files=file, data=dict(crop=['0,0,1,1', '0,0,1,.5'])), "the form takes 'crop' once"),
    ):
        assert answer.status_code == 400 and message in answer.json()['error']


def test_a_method_that_an_address_does_not_take_is_answered_with_those_that_it_takes(client):
    for answer, allowed in ((client.delete('/api/stores'), 'GET'), (client.get('/api/stores/toys/search'), 'POST')):
        assert answer.status_code == 405 and allowed in answer.headers['allow'].split(', ')


def test_the_document_describes_every_address_and_its_page_shows_them(client):
    document = client.get('/api/openapi.json').json()
    assert document == openapi() and document['openapi'].startswith('3.')
    page = client.get('/api/').text
    for path, methods in document['paths'].items():
        assert path in page
        named = set(re.findall(r'{(\w+)}', path))
        for each in methods.values():
            assert named == {one['name'] for one in each.get('parameters', []) if one['in'] == 'path'}
            for one in each['responses'].values():
                assert one['description'] and one['content']
    from mmdml.web.api import Api

    routes = {route.path for route in Api(None, None).routes()} - {'/', '/openapi.json'}
    assert {path.removeprefix('/api') for path in document['paths']} == routes
