"""Headers and checks of every answer: what a page may load, who may ask, and from which pages."""

import hmac
import re
from urllib.parse import urlencode, urlsplit

from starlette.datastructures import URL, Headers, MutableHeaders, QueryParams
from starlette.requests import cookie_parser
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

#: Everything comes from this server, scripts and styles from files.
POLICY = '; '.join(
    (
        "default-src 'none'",
        "img-src 'self' blob:",
        "style-src 'self'",
        "script-src 'self'",
        "connect-src 'self'",
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    )
)
HEADERS = {
    'Content-Security-Policy': POLICY,
    'X-Content-Type-Options': 'nosniff',
    'Referrer-Policy': 'no-referrer',
    'Cross-Origin-Opener-Policy': 'same-origin',
    'Cross-Origin-Resource-Policy': 'same-origin',
}
LOOPBACK = ('127.0.0.1', 'localhost', '::1')
_COOKIE = 'mmdml_token'


def check_token(token: str | None) -> None:
    """Check what requests must bring, before the server starts: it builds :class:`Security` at the first request.

    Raises:
        ValueError: the token is empty, as of a variable that is not set, or cannot stand in a header.
    """
    if token is not None and not re.fullmatch('[!-~]+', token):
        raise ValueError('a token must have one or more letters, digits or signs of ASCII, and no blanks')


class Security:
    """Wrap an application with headers, the token, and the refusal of other pages' requests.

    Without a token only this machine reaches the server: requests must name it as the host, so that a page of
    another name that resolves to 127.0.0.1 gets nothing.

    Args:
        app: what answers.
        token: that a request must bring, as a cookie, as ``Authorization: Bearer TOKEN`` or, at first, as
            ``?token=TOKEN``; None for none.
    """

    def __init__(self, app: ASGIApp, token: str | None = None) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope['type'] != 'http':
            await self.app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message['type'] == 'http.response.start':
                headers = MutableHeaders(scope=message)
                for name, value in HEADERS.items():
                    headers[name] = value
                headers.setdefault('Cache-Control', 'no-store')
            await send(message)

        answer = self._refusal(scope) or self.app
        await answer(scope, receive, send_with_headers)

    def _refusal(self, scope: Scope) -> ASGIApp | None:
        """Return what answers in place of the application, None if nothing speaks against a request."""
        headers = Headers(scope=scope)
        if self.token is None and _host(headers.get('host', '')) not in LOOPBACK:
            return _refused(scope, 'open this page by the address 127.0.0.1 or localhost', 400)
        if scope['method'] not in ('GET', 'HEAD') and not _same_origin(headers):
            return _refused(scope, 'requests from other pages are refused', 403)
        if self.token is None or self._has_token(scope, headers):
            return self._without_token(scope)
        return _refused(scope, 'open this page by the address that `mmdml serve` printed, with its token', 401)

    def _has_token(self, scope: Scope, headers: Headers) -> bool:
        kind, _, bearer = headers.get('authorization', '').partition(' ')
        given = [
            QueryParams(scope['query_string']).get('token', ''),
            cookie_parser(headers.get('cookie', '')).get(_COOKIE, ''),
        ]
        given += [bearer] if kind.lower() == 'bearer' else []
        return any([hmac.compare_digest(each.encode(), self.token.encode()) for each in given])

    def _without_token(self, scope: Scope) -> ASGIApp | None:
        """Return the redirection that moves a token from the address into a cookie."""
        parameters = QueryParams(scope['query_string'])
        if self.token is None or 'token' not in parameters or scope['method'] != 'GET':
            return None
        rest = urlencode([pair for pair in parameters.multi_items() if pair[0] != 'token'])
        url = URL(scope=scope)
        answer = RedirectResponse(url.path + (f'?{rest}' if rest else ''), 303)
        answer.set_cookie(_COOKIE, self.token, httponly=True, samesite='strict', secure=url.scheme == 'https')
        return answer


def _refused(scope: Scope, reason: str, status: int) -> Response:
    """Return a refusal, to programs in the form of all errors of the API."""
    if scope['path'].startswith('/api/'):
        return JSONResponse(dict(error=reason), status)
    return PlainTextResponse(f'{reason}\n', status)


def _host(value: str) -> str:
    try:
        return urlsplit(f'//{value}').hostname or ''
    except ValueError:  # such as an IPv6 address without its bracket
        return ''


def _same_origin(headers: Headers) -> bool:
    """Whether a request comes from a page of this server, or from no page at all."""
    if headers.get('sec-fetch-site', 'same-origin') not in ('same-origin', 'none'):
        return False
    origin = headers.get('origin')
    try:
        return origin is None or urlsplit(origin).netloc == headers.get('host')
    except ValueError:
        return False
