"""Pages over HTTP."""

import csv
import io
import zipfile
from html.parser import HTMLParser

import httpx2
import pytest
from serving import HOSTILE_LABEL


class Cards(HTMLParser):
    """Titles of the sections of a page, each with the row ids of its results."""

    def __init__(self, page):
        super().__init__()
        self.sections, self.tags = {}, set()
        self.feed(page.text)

    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        self.tags.add(tag)
        if tag == 'section' and attrs.get('aria-label', '').startswith('Results of '):
            self.title = attrs['aria-label'].removeprefix('Results of ')
            self.sections[self.title] = []
        elif attrs.get('class') == 'card':
            self.sections[self.title].append(int(attrs['data-id']))


@pytest.fixture(scope='module')
def client(server):
    with httpx2.Client(base_url=server, follow_redirects=True) as client:
        yield client


@pytest.fixture(scope='module')
def upload(client, color_pictures):
    """The page after an upload of the third picture of class 7."""
    file = color_pictures / 'class 7' / '2.png'
    return client.post('/queries', files={'picture': ('mine.png', file.read_bytes())})


def test_an_uploaded_picture_finds_itself_in_every_store(client, upload):
    assert upload.status_code == 200, upload.text
    found = Cards(upload).sections
    assert list(found) == ['toys', 'toys 2'] and found['toys'] == found['toys 2'] and len(found['toys']) == 12
    top = client.get(f'/api/stores/toys/rows/{found["toys"][0]}').json()
    assert top['path'].endswith('class 7/2.png') and top['label'] == 'class 7'
    assert client.get(f'/queries/{upload.url.params["query"]}/picture').headers['content-type'] == 'image/jpeg'


def test_a_search_may_be_limited_to_labels_stores_and_a_number(client, upload):
    address = dict(query=upload.url.params['query'], label=['class 5', 'class 6'], store='toys-2', k=5)
    found = Cards(client.get('/', params=address)).sections
    labels = {client.get(f'/api/stores/toys/rows/{id}').json()['label'] for id in found['toys 2']}
    assert list(found) == ['toys 2'] and len(found['toys 2']) == 5 and labels == {'class 5', 'class 6'}
    assert 'No picture has this label' in client.get('/', params=address | dict(label='none such')).text


def test_more_like_a_row_leaves_it_out_and_equals_the_search_for_its_picture(client, upload):
    own, other = Cards(client.get('/?row=toys:14')).sections.values()
    assert 14 not in own and other == [14, *own[:11]]
    assert Cards(upload).sections['toys'] == other


def test_htmx_gets_the_part_that_changes_and_a_restored_page_all_of_it(client):
    part = Cards(client.get('/?row=toys:14', headers={'HX-Request': 'true'}))
    assert 'html' not in part.tags and part.sections['toys']
    headers = {'HX-Request': 'true', 'HX-History-Restore-Request': 'true'}
    assert 'html' in Cards(client.get('/?row=toys:14', headers=headers)).tags


def test_a_region_of_a_picture_finds_other_rows_than_the_whole(client, upload):
    query = upload.url.params['query']
    whole, region = (client.get('/', params=dict(query=query, crop=crop, k=24)) for crop in ('', '0.0,0.0,0.2,0.3'))
    assert Cards(whole).sections['toys'] != Cards(region).sections['toys']


def test_the_start_shows_pictures_spread_over_the_gallery(client):
    found = Cards(client.get('/?k=6')).sections
    assert len(found['toys']) == 12 and found['toys'][0] == 0 and found['toys'][-1] == 23


@pytest.mark.parametrize(
    ('address', 'status', 'reason'),
    [
        ('/?row=toys:99', 404, 'toys has no row 99'),
        ('/?row=toys:99999999999999999999999', 400, 'must be a whole number'),
        ('/?row=toys:-1', 400, 'must be a whole number'),
        ('/?row=other:1', 404, 'there are toys, toys-2'),
        ('/?row=toys:1&crop=0,0,2,1', 400, 'in shares of 0..1'),
        ('/?row=toys:1&crop=nan,0,1,1', 400, 'in shares of 0..1'),
        ('/?query=gone', 410, 'choose it again'),
        ('/?k=5000', 400, 'in 1..1000'),
        ('/pictures/toys/3?side=77', 400, 'must be one of'),
        ('/pictures/toys/..%2f..%2fetc%2fpasswd', 404, 'Not Found'),
        ('/nothing', 404, 'Not Found'),
    ],
)
def test_wrong_addresses_are_refused_in_words(client, address, status, reason):
    page = client.get(address)
    assert (page.status_code, reason in page.text) == (status, True)


def test_marks_are_shown_changed_taken_away_and_exported_as_pairs(client, upload, color_pictures):
    query = dict(query=upload.url.params['query'])
    for parameters, id, mark in [
        (dict(row='toys:0'), 1, 'right'),
        (dict(row='toys:0'), 5, 'right'),
        (query, 7, 'wrong'),
    ]:
        part = client.post(
            '/marks', data=dict(parameters, gallery='toys', id=id, mark=mark), headers={'HX-Request': '1'}
        )
        assert part.status_code == 200 and 'aria-pressed="true"' in part.text
    client.post('/marks', data=dict(row='toys:0', gallery='toys', id=5, mark='none'))
    assert client.get('/?row=toys:0').text.count('aria-pressed="true"') == 1
    assert '1 right and 1 wrong pairs' in client.get('/marks').text
    first, second = csv.DictReader(io.StringIO(client.get('/marks.csv').text))
    assert (first['query'], first['picture'], first['same']) == (
        str(color_pictures / 'class 10' / '0.png'),
        str(color_pictures / 'class 10' / '1.png'),
        '1',
    )
    assert first['query_label'] == first['picture_label'] == HOSTILE_LABEL
    assert (second['same'], second['store']) == ('0', '/toys')
    with zipfile.ZipFile(io.BytesIO(client.get('/marks.zip').content)) as archive:
        assert archive.namelist() == ['pairs.csv', second['query']]
        assert archive.read(second['query']).startswith(b'\xff\xd8')
    assert client.post('/marks', data=dict(row='toys:0', gallery='toys', id=5, mark='maybe')).status_code == 400
    for name in ('row', 'k', 'crop', 'label'):
        texts = {
            key: value for key, value in dict(row='toys:0', gallery='toys', id='5', mark='right').items() if key != name
        }
        assert client.post('/marks', data=texts, files={name: b'a file'}).status_code == 400
