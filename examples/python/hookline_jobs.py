# SPDX-License-Identifier: Apache-2.0
"""What an agent needs to await jobs of hookline: asyncio and nothing else. A wait is one connection;
thousands of them need no thread. Used by await_gemini.py and await_several.py; copy it.

HOOKLINE_ADMIN is the admin listener (http://127.0.0.1:9180), HOOKLINE_ADMIN_TOKEN its token."""
import asyncio
import json
import os
import urllib.parse

ADMIN = urllib.parse.urlsplit(os.environ.get('HOOKLINE_ADMIN', 'http://127.0.0.1:9180'))
TOKEN = os.environ.get('HOOKLINE_ADMIN_TOKEN')
WAIT_S = 60  # one request; the bridge cuts it to ten minutes


class Overdue(Exception):
    """The deadline has passed and no final webhook came. Ask the provider itself."""


async def call(method, path):
    """(status, headers, body as JSON or None)"""
    tls = ADMIN.scheme == 'https'
    reader, writer = await asyncio.open_connection(ADMIN.hostname, ADMIN.port or (443 if tls else 80), ssl=tls or None)
    try:
        token = f'Authorization: Bearer {TOKEN}\r\n' if TOKEN else ''
        writer.write(f'{method} {path} HTTP/1.1\r\nHost: {ADMIN.netloc}\r\nConnection: close\r\n{token}\r\n'.encode())
        head, _, body = (await reader.read()).partition(b'\r\n\r\n')
    finally:
        writer.close()
    if not head:
        raise ConnectionError('the connection ended without an answer')
    status, *lines = head.decode('latin-1').split('\r\n')
    headers = {k.lower(): v.strip() for k, _, v in (line.partition(':') for line in lines)}
    return int(status.split()[1]), headers, json.loads(body) if body else None


def path_of(job, **query):
    return f'/v1/jobs/{urllib.parse.quote(job, safe="")}?{urllib.parse.urlencode(query)}'


async def expect(job, deadline):
    """Before you wait: so that somebody says so when no webhook comes. Durable once it returns."""
    while True:
        try:
            status, _, body = await call('PUT', path_of(job, deadline=deadline))
        except OSError:  # the bridge is restarted
            status, body = 503, None
        if status == 204:
            return
        if status < 500:
            raise RuntimeError(f'{status}: {body}')
        await asyncio.sleep(0.5)


async def final(job):
    """(outcome, event): waits until the job has succeeded, failed or was cancelled, however long that takes.
    Raises Overdue when its deadline passes first."""
    while True:
        try:
            status, headers, body = await call('GET', path_of(job, wait=WAIT_S))
        except OSError:  # the bridge is restarted; it knows the job again
            await asyncio.sleep(0.5)
            continue
        if status == 200:
            return headers['hookline-outcome'], body
        if status == 404 and body.get('state') == 'overdue':
            raise Overdue(job)
        if status in (400, 401, 410):
            raise RuntimeError(f'{status}: {body}')
        if status != 404:
            await asyncio.sleep(0.5)
