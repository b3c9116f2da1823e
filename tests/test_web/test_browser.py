"""The page in a real browser. Screenshots go to the folder that MMDML_SCREENSHOTS names."""

import os
import shutil
from pathlib import Path

import pytest

pytest.importorskip('selenium')
from selenium import webdriver
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.support.ui import WebDriverWait

CHROMIUM, DRIVER = shutil.which('chromium'), shutil.which('chromedriver')
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not (CHROMIUM and DRIVER), reason='needs chromium and chromedriver: apt-get install chromium-driver'
    ),
]
FLAGS = '--headless --no-sandbox --disable-gpu --disable-background-networking --no-first-run --hide-scrollbars'.split()


@pytest.fixture(scope='module')
def browser():
    options = webdriver.ChromeOptions()
    options.binary_location = CHROMIUM
    for flag in [*FLAGS, '--window-size=1280,900']:
        options.add_argument(flag)
    options.set_capability('goog:loggingPrefs', {'browser': 'ALL', 'performance': 'ALL'})
    browser = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    yield browser
    browser.quit()


class Page:
    """What a user does on the page, and what is to be seen then."""

    def __init__(self, browser, server, folder):
        self.browser, self.server, self.folder = browser, server, folder

    def open(self, address):
        self.browser.get(self.server + address)

    def all(self, selector):
        return self.browser.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector):
        return WebDriverWait(self.browser, 15).until(lambda _: next(iter(self.all(selector)), None))

    def wait(self, condition):
        WebDriverWait(self.browser, 15, ignored_exceptions=[Exception]).until(lambda _: condition())

    def labels(self, store=1):
        return [each.text for each in self.all(f'.results > section:nth-child({store}) .label')]

    def shoot(self, name):
        self.wait(
            lambda: self.browser.execute_script(
                'return [...document.images].filter((each) => each.loading !== "lazy").every((each) => each.complete)'
            )
        )
        self.browser.save_screenshot(str(self.folder / f'{name}.png'))


@pytest.fixture
def page(browser, server, tmp_path_factory):
    folder = Path(os.environ.get('MMDML_SCREENSHOTS') or tmp_path_factory.mktemp('screenshots'))
    folder.mkdir(parents=True, exist_ok=True)
    page = Page(browser, server, folder)
    yield page
    # Nothing failed in the page, and nothing in it was stopped by the policy.
    assert [line for line in browser.get_log('browser') if line['level'] == 'SEVERE'] == []


def test_from_an_upload_to_more_like_this_a_label_and_a_mark(page, color_pictures):
    page.open('/')
    page.wait(lambda: len(page.all('.card')) == 48)
    page.shoot('start')
    page.one('#picture').send_keys(str(color_pictures / 'class 7' / '2.png'))
    page.wait(lambda: '?query=' in page.browser.current_url and page.labels()[0] == 'class 7')
    assert len(page.all('.results > section')) == 2 and len(page.all('.card')) == 24
    assert float(page.one('.score').text) == pytest.approx(1, abs=1e-3)
    page.shoot('results')

    page.all('.more')[1].click()
    page.wait(lambda: 'row=toys' in page.browser.current_url)
    row = page.browser.current_url
    assert page.one('#query-picture').get_attribute('src').endswith('?side=1200')
    page.shoot('more like this')

    page.one('#label').send_keys('class 5', Keys.ENTER)
    page.wait(lambda: set(page.labels()) == {'class 5'} and len(page.labels()) == 4)
    page.shoot('one label')
    page.one('.chip').click()
    page.wait(lambda: len(page.labels()) == 12)

    page.one('.mark .right').click()
    page.wait(lambda: page.one('.mark .right').get_attribute('aria-pressed') == 'true')
    page.all('.card')[1].find_element(By.CSS_SELECTOR, '.mark .wrong').click()
    page.wait(lambda: page.all('.mark .wrong')[1].get_attribute('aria-pressed') == 'true')
    page.browser.refresh()
    assert [
        page.all(f'.mark .{kind}')[n].get_attribute('aria-pressed') for n, kind in enumerate(('right', 'wrong'))
    ] == ['true'] * 2
    page.shoot('marks')
    page.browser.back()
    page.wait(lambda: 'label=' in page.browser.current_url and len(page.labels()) == 4)
    assert row != page.browser.current_url
    page.open('/marks')
    assert len(page.all('tbody tr')) >= 2
    page.shoot('table of marks')


def test_a_region_is_searched_by_dragging(page):
    page.open('/?row=toys:14')
    picture = page.one('#crop')
    drag = ActionChains(page.browser).move_to_element_with_offset(picture, -30, -30).click_and_hold()
    drag.move_by_offset(40, 40).release().perform()
    page.wait(lambda: 'crop=0' in page.browser.current_url and page.one('#box').is_displayed())
    # A region is another picture than the row: the row itself is found, too.
    page.shoot('region')
    page.one('#whole').click()
    page.wait(lambda: 'crop=' not in page.browser.current_url)


def test_pasted_and_dropped_pictures_are_searched(page, color_pictures):
    give = """
        const bytes = Uint8Array.from(atob(arguments[1]), (each) => each.charCodeAt(0));
        const transfer = new DataTransfer();
        transfer.items.add(new File([bytes], arguments[2], {type: 'image/png'}));
        const event = arguments[0] === 'paste'
            ? new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true})
            : new DragEvent('drop', {dataTransfer: transfer, bubbles: true, cancelable: true});
        document.body.dispatchEvent(event);
    """
    import base64

    for kind, label in (('paste', 'class 6'), ('drop', 'class 9')):
        page.open('/')
        data = base64.b64encode((color_pictures / label / '1.png').read_bytes()).decode()
        page.browser.execute_script(give, kind, data, f'{kind}.png')
        page.wait(lambda label=label: '?query=' in page.browser.current_url and page.labels()[0] == label)


def test_too_large_and_unreadable_uploads_are_explained(page, tmp_path):
    large, other = tmp_path / 'large.png', tmp_path / 'page.jpg'
    large.write_bytes(bytes(2_100_000))
    other.write_text('<html><script>document.title = "hacked"</script></html>')
    page.open('/')
    page.one('#picture').send_keys(str(large))
    page.wait(lambda: 'at most 2 MB' in page.one('#upload-error').text)
    page.one('#picture').send_keys(str(other))
    page.wait(lambda: 'is no JPEG' in page.one('#upload-error').text)
    assert len(page.all('.card')) == 48 and page.browser.current_url.endswith('/')
    page.shoot('refused')
    refused = page.browser.get_log('browser')
    assert [line for line in refused if '422' not in line['message']] == []


def test_a_click_on_the_map_shows_the_picture(page):
    page.open('/map?store=toys')
    canvas = page.one('#points[data-method=pca]')
    points = page.browser.execute_async_script(
        'fetch("/api/stores/toys/map").then((each) => each.json()).then((each) => arguments[0](each.points))'
    )
    assert len(points) == 24
    id, x, y, _ = max(points, key=lambda point: point[1])
    width, height = canvas.size['width'], canvas.size['height']
    spans = [max(max(point[axis] for point in points) - min(point[axis] for point in points), 0.05) for axis in (1, 2)]
    scale = min((width - 48) / spans[0], (height - 48) / spans[1])
    place = round((x - 0.5) * scale), round((0.5 - y) * scale)
    ActionChains(page.browser).move_to_element_with_offset(canvas, *place).click().perform()
    page.wait(lambda: page.one('#chosen').is_displayed() and page.one('#chosen-name').text)
    assert page.one('#chosen-picture').get_attribute('src').endswith(f'/pictures/toys/{id}')
    page.shoot('map')
    page.one('#chosen-more').click()
    page.wait(lambda: f'row=toys%3A{id}' in page.browser.current_url)


def test_all_by_keyboard(page):
    page.open('/?row=toys:14')
    body = page.one('body')
    body.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    first, second = page.all('.card .picture')[:2]
    assert page.browser.switch_to.active_element == second
    page.browser.switch_to.active_element.send_keys(Keys.ARROW_LEFT, 'y')
    page.wait(lambda: page.one('.mark .right').get_attribute('aria-pressed') == 'true')
    assert page.browser.switch_to.active_element == first
    first.send_keys(Keys.ENTER)
    page.wait(lambda: 'row=toys%3A' in page.browser.current_url and not page.browser.current_url.endswith('14'))
    page.one('body').send_keys('/')
    assert page.browser.switch_to.active_element.get_attribute('id') == 'label'
    page.open('/map?store=toys')
    page.one('#points[data-method=pca]').send_keys(Keys.ARROW_RIGHT)
    page.wait(lambda: page.one('#chosen').is_displayed())


def test_a_phone_needs_no_sideways_scrolling_and_scripts_in_names_do_not_run(page):
    size = dict(width=390, height=844, deviceScaleFactor=2, mobile=True)
    page.browser.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', size)
    page.browser.execute_cdp_cmd(
        'Emulation.setEmulatedMedia', {'features': [{'name': 'prefers-color-scheme', 'value': 'dark'}]}
    )
    try:
        # The row with a script in its label and in its name.
        for name, address in dict(phone='/?row=toys:3', map_on_a_phone='/map', api_on_a_phone='/api/').items():
            page.open(address)
            page.one('main')
            assert page.browser.execute_script('return document.documentElement.scrollWidth') <= 390
            page.shoot(name.replace('_', ' '))
        page.open('/?row=toys:3')
        assert any('<script>' in label for label in page.labels())
        assert 'hacked' not in page.browser.title
        colors = page.browser.execute_script('return getComputedStyle(document.body).backgroundColor')
        assert max(int(each) for each in colors.removeprefix('rgb(').removesuffix(')').split(',')) < 60
    finally:
        page.browser.execute_cdp_cmd('Emulation.clearDeviceMetricsOverride', {})
        page.browser.execute_cdp_cmd('Emulation.setEmulatedMedia', {'features': []})


def test_nothing_was_loaded_from_elsewhere(page):
    """Runs last: over all pages before."""
    import json

    requests = [json.loads(line['message'])['message'] for line in page.browser.get_log('performance')]
    addresses = {each['params']['request']['url'] for each in requests if each['method'] == 'Network.requestWillBeSent'}
    assert len(addresses) > 30
    assert [each for each in addresses if not each.startswith((page.server, 'data:', 'blob:'))] == []
