#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Starts a batch job of the Gemini API and awaits it: no polling loop, one call.

Install: nothing, Python alone
Run:     GEMINI_API_KEY=... await_gemini.py "Why is the sky blue?"    (HOOKLINE_ADMIN, HOOKLINE_ADMIN_TOKEN)

Gemini's webhooks must come to a source of hookline (docs/gemini.md). They are thin: they say that the job
is done, so its result is fetched with your own key. GEMINI_URL is another server, for tests."""
import asyncio
import json
import os
import sys
import urllib.request

from hookline_jobs import Overdue, expect, final

URL = os.environ.get('GEMINI_URL', 'https://generativelanguage.googleapis.com')
KEY = os.environ['GEMINI_API_KEY']
MODEL = os.environ.get('GEMINI_MODEL', 'gemini-2.5-flash')


def gemini(path, body=None):
    request = urllib.request.Request(f'{URL}/v1beta/{path}', json.dumps(body).encode() if body else None,
                                     {'x-goog-api-key': KEY, 'Content-Type': 'application/json'})
    with urllib.request.urlopen(request, timeout=60) as r:
        return json.load(r)


def start(question):
    """The job's name, as batches/123."""
    ask = {'request': {'contents': [{'parts': [{'text': question}]}]}, 'metadata': {'key': 'one'}}
    return gemini(f'models/{MODEL}:batchGenerateContent',
                  {'batch': {'display_name': 'from an agent', 'input_config': {'requests': {'requests': [ask]}}}})['name']


async def main(question):
    job = await asyncio.to_thread(start, question)
    await expect(job, '24h')
    print('awaiting', job, flush=True)
    try:
        outcome, event = await final(job)
    except Overdue:
        outcome, event = 'overdue', None  # the webhook was lost, or the job hangs: what Gemini itself says counts
    print(outcome, event and event['type'], flush=True)
    print(json.dumps(await asyncio.to_thread(gemini, job)))
    return outcome != 'succeeded'


sys.exit(asyncio.run(main(sys.argv[1])))
