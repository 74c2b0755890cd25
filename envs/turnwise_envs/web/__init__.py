"""Environments on web pages, in a real browser: one Chromium a process, a context an episode, a gate to the network.

`page.py` is the base of environments that act on a page, `browse.py` of those that go from page to page; MiniWoB++ is
in `miniwob.py`. `launch.py` starts the browser, `browsers.py` shares it, `session.py` is an episode's part of it, and
`page.js` says what a page shows. Plain pages of this process need no browser (`plain_page.py`): `plain.py` is an
episode's part of them, `markup.py` parses, `reading.py` says what `page.js` would.
"""
