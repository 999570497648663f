"""The report in a browser: Chromium without a window; skipped where there is none."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from typing import Any

import pytest

from moca.results.report.page import write_report
from moca.results.report.runs import Options
from tests.results.reported import write_all

playwright = pytest.importorskip('playwright.sync_api')

CHROMIUM = next(
    filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None
)
WAIT = 120_000
"""Milliseconds, on a machine that does much else."""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason='needs Chromium: apt install chromium')


@pytest.fixture(scope='module')
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    folder = tmp_path_factory.mktemp('browser')
    write_report([write_all(folder / 'runs')], folder / 'report.html', Options())
    return (folder / 'report.html').as_uri()


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        # without its sandbox it starts as root, too; the page is our own
        browser = started.chromium.launch(
            executable_path=CHROMIUM, args=['--no-sandbox'], timeout=WAIT
        )
        yield browser
        browser.close()


class Opened:
    """The page in a window of its own, and what it complained of."""

    def __init__(self, browser: Any, address: str, width: int = 1280, **options: Any) -> None:
        self.faults: list[str] = []
        context = browser.new_context(viewport=dict(width=width, height=800), **options)
        context.set_default_timeout(WAIT)
        self.page = context.new_page()
        self.page.on('console', lambda message: self.faults.append(message.text))
        self.page.on('pageerror', lambda error: self.faults.append(str(error)))
        self.page.on('dialog', lambda dialog: self.faults.append(dialog.message))
        self.page.on('request', lambda request: self._asked(request.url))
        self.address = address
        self.page.goto(address)

    def _asked(self, url: str) -> None:
        if not url.startswith(('file:', 'data:')):
            self.faults.append(url)

    def shown(self, column: int) -> list[str]:
        """Texts of the rows that are to be seen."""
        return list(
            self.page.eval_on_selector_all(
                '#table tbody tr',
                'rows => rows.filter(row => row.offsetParent !== null || row.offsetHeight)'
                f'.map(row => row.cells[{column}].innerText.trim())',
            )
        )

    def color(self, selector: str = 'body') -> str:
        return str(self.page.eval_on_selector(selector, 'e => getComputedStyle(e).backgroundColor'))


@pytest.fixture
def opened(browser: Any, address: str) -> Iterator[Opened]:
    window = Opened(browser, address)
    yield window
    window.page.context.close()
    assert window.faults == []


def test_the_table_sorts_and_filters(opened: Opened) -> None:
    page, before = opened.page, opened.shown(3)
    page.click('#table th button[data-column="4"]')
    values = [float(text.split()[0].rstrip('*')) for text in opened.shown(3)]
    assert values == sorted(values)
    assert len(values) == len(before)
    page.click('#table th button[data-column="4"]')
    assert [float(text.split()[0].rstrip('*')) for text in opened.shown(3)] == values[::-1]
    sorting = page.get_attribute('#table th:nth-child(4)', 'aria-sort')
    assert sorting == 'descending'
    page.select_option('#order', '0')
    assert opened.shown(3) == before

    page.select_option('#protocol', 'nyu_linear')
    assert set(opened.shown(0)) == {'NYUv2 depth'}
    assert page.inner_text('#shown') == f'{len(opened.shown(0))} of {len(before)} rows'
    assert page.locator('article.protocol:visible').count() == 1
    page.select_option('#protocol', '')
    page.select_option('#origin', 'published')
    assert 0 < len(opened.shown(0)) < len(before)
    assert not any('run ' in text for text in opened.shown(7))


def test_a_link_to_a_run_unfolds_it(opened: Opened) -> None:
    link = opened.page.locator('#table a[href^="#run-"]').first
    target = str(link.get_attribute('href'))
    assert not opened.page.locator(f'{target} dl.facts').is_visible()
    link.click()
    opened.page.locator(f'{target} dl.facts').wait_for(state='visible')


def test_light_and_dark_follow_the_system_and_the_button(browser: Any, address: str) -> None:
    found = []
    for scheme in ('light', 'dark'):
        window = Opened(browser, address, color_scheme=scheme)
        system = window.color()
        found.append(system)
        chosen = []
        for name in ('light', 'dark', 'as the system'):
            window.page.click('#theme')
            assert name in window.page.inner_text('#theme')
            chosen.append(window.color())
        assert chosen[0] != chosen[1]
        assert chosen[2] == system
        window.page.click('#theme')
        window.page.reload()
        assert window.color() == chosen[0]  # what was chosen stays
        assert window.faults == []
        window.page.context.close()
    assert found[0] != found[1]


def test_a_phone_scrolls_in_one_direction(browser: Any, address: str) -> None:
    window = Opened(browser, address, width=360)
    window.page.evaluate('document.querySelectorAll("details").forEach(d => d.open = true)')
    wide, seen = window.page.evaluate(
        '[document.documentElement.scrollWidth, document.documentElement.clientWidth]'
    )
    assert wide <= seen == 360
    assert len(window.shown(0)) > 20
    assert window.faults == []
    window.page.context.close()


def test_a_print_has_what_is_filtered_and_folded(opened: Opened) -> None:
    page = opened.page
    rows = len(opened.shown(0))
    page.select_option('#protocol', 'nyu_linear')
    assert len(opened.shown(0)) < rows
    page.emulate_media(media='print')
    assert len(opened.shown(0)) == rows
    folded = page.eval_on_selector_all(
        'details:not([open]) pre', 'parts => parts.filter(part => !part.checkVisibility()).length'
    )
    assert folded == 0
    assert page.locator('article.protocol:visible').count() == 5
    assert opened.page.pdf(format='A4').startswith(b'%PDF')
