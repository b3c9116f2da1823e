"""Headers, tokens, and requests of other pages."""

import socket

import httpx2
import pytest
from serving import serving

from mmdml.index import LocalStore
from mmdml.web import Gallery, create_app
from mmdml.web.server import page_address, serve


@pytest.fixture(scope='module')
def client(server):
    with httpx2.Client(base_url=server) as client:
        yield client


@pytest.mark.parametrize(
    'address', ['/', '/map', '/api/stores', '/pictures/toys/0', '/static/page.js', '/nothing', '/?row=x:1']
)
def test_every_answer_allows_nothing_from_elsewhere_and_no_inline_script(client, address):
    answer = client.get(address)
    policy = dict(part.split(' ', 1) for part in answer.headers['content-security-policy'].split('; '))
    assert (
        policy['default-src'] == "'none'" and policy['script-src'] == "'self'" and policy['frame-ancestors'] == "'none'"
    )
    assert 'unsafe' not in answer.headers['content-security-policy']
    assert answer.headers['x-content-type-options'] == 'nosniff'
    assert 'server' not in answer.headers or 'mmdml' not in answer.headers['server']
    if answer.headers['content-type'].startswith('text/html'):
        assert '<script>' not in answer.text and ' style=' not in answer.text and 'onclick' not in answer.text


def test_requests_under_another_host_name_are_refused(client):
    assert client.get('/', headers={'Host': 'evil.example'}).status_code == 400
    assert client.get('/', headers={'Host': '[::1'}).status_code == 400
    refused = client.get('/api/stores', headers={'Host': 'evil.example'})
    assert (refused.status_code, set(refused.json())) == (400, {'error'})
    assert client.get('/', headers={'Host': 'localhost:1234'}).status_code == 200


@pytest.mark.parametrize(
    'headers',
    [
        {'Origin': 'http://evil.example'},
        {'Origin': 'http://[::1'},
        {'Origin': 'null'},
        {'Sec-Fetch-Site': 'cross-site'},
    ],
)
def test_forms_of_other_pages_are_refused(client, headers):
    mark = dict(row='toys:0', gallery='toys', id='1', mark='right')
    assert client.post('/marks', data=mark, headers=headers).status_code == 403
    own = {'Origin': str(client.base_url).rstrip('/')}
    assert client.post('/marks', data=mark, headers=own).status_code == 303


def test_only_what_brings_the_token_is_answered(embed, store_folder, tmp_path):
    app = create_app([Gallery('toys', LocalStore.open(store_folder), embed)], tmp_path / 'marks.db', token='secret')
    with serving(app) as server:
        for headers in ({}, {'Authorization': 'Bearer wrong'}, {'Cookie': 'mmdml_token=wrong'}):
            for address in ('/', '/api/stores', '/pictures/toys/0', '/static/page.js', '/?token=wrong'):
                answer = httpx2.get(server + address, headers=headers)
                assert answer.status_code == 401
                assert not address.startswith('/api/') or set(answer.json()) == {'error'}
        assert httpx2.get(f'{server}/api/stores', headers={'Authorization': 'Bearer secret'}).status_code == 200
        with httpx2.Client(base_url=server) as client:
            answer = client.get('/?row=toys:1&token=secret')
            assert (answer.status_code, answer.headers['location']) == (303, '/?row=toys%3A1')
            cookie = answer.headers['set-cookie'].lower()
            assert 'httponly' in cookie and 'samesite=strict' in cookie
            assert client.get('/?row=toys:1', headers={'Host': 'other.example'}).status_code == 200


@pytest.mark.parametrize('token', ['', ' ', 'a b', '密码', 'a\n'])
def test_a_token_that_is_empty_or_no_ascii_is_refused_before_the_server_starts(embed, store_folder, tmp_path, token):
    with (
        LocalStore.open(store_folder) as store,
        pytest.raises(ValueError, match='a token must have one or more letters'),
    ):
        serve([Gallery('toys', store, embed)], port=0, token=token, marks=tmp_path / 'marks.db')


def test_where_nothing_can_be_listened_at_the_error_names_what_to_change(embed, store_folder, tmp_path):
    with LocalStore.open(store_folder) as store, socket.create_server(('127.0.0.1', 0)) as other:
        served, marks = [Gallery('toys', store, embed)], tmp_path / 'marks.db'
        with pytest.raises(OSError, match=r'^192\.0\.2\.1:8000 cannot be listened at: .*; choose another host$'):
            serve(served, host='192.0.2.1', marks=marks)
        with pytest.raises(OSError, match='choose another port, 0 for any$'):
            serve(served, port=other.getsockname()[1], marks=marks)


@pytest.mark.parametrize('token', ['Zq+8/w==', 'p&ss', 'a#b', '50%41;"'])
def test_the_address_with_a_token_of_any_signs_opens_the_page(embed, store_folder, tmp_path, token):
    app = create_app([Gallery('toys', LocalStore.open(store_folder), embed)], tmp_path / 'marks.db', token=token)
    with serving(app) as server, httpx2.Client(follow_redirects=True) as client:
        port = int(server.rpartition(':')[2])
        assert client.get(page_address('127.0.0.1', port, token)).status_code == 200
        assert client.get(f'{server}/api/stores').status_code == 200  # by the cookie
        assert httpx2.get(f'{server}/api/stores', headers={'Authorization': f'Bearer {token}'}).status_code == 200


def test_addresses_name_what_is_listened_at():
    assert page_address('::1', 80, None) == 'http://[::1]:80/'
    assert page_address('0.0.0.0', 80, 'a') == f'http://{socket.gethostname()}:80/?token=a'
