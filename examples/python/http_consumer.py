#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Consumes events from hookline itself, over HTTP; each takes effect once, whatever is killed when.

Install: nothing, Python alone
Run:     http_consumer.py --url http://127.0.0.1:9180 --db events.db     (token: HOOKLINE_ADMIN_TOKEN)

The effect here is a row keyed by the event's source and id: a repeat changes nothing. The position
is stored in the same transaction; where the effect is elsewhere, store the position after it."""
import argparse
import http.client
import json
import os
import sqlite3
import sys
import time
import urllib.error
import urllib.parse
import urllib.request

p = argparse.ArgumentParser()
p.add_argument('--url', default='http://127.0.0.1:9180')
p.add_argument('--db', default='events.db')
args = p.parse_args()

db = sqlite3.connect(args.db)
db.execute('create table if not exists effects'
           ' (source text, id text, type text, event text, primary key (source, id))')
db.execute('create table if not exists position (one integer primary key check (one = 1), log text, after text)')
token = os.environ.get('HOOKLINE_ADMIN_TOKEN')


def page(log, after, limit):
    """(text, the log's id, the next position) behind a position; waits half a minute for the first event."""
    query = {'wait': 30, 'limit': limit}
    if log:  # a position means something in its own log only: another one answers 409
        query.update(log=log, after=after)
    request = urllib.request.Request(f'{args.url}/v1/events?{urllib.parse.urlencode(query)}')
    if token:
        request.add_header('Authorization', 'Bearer ' + token)
    with urllib.request.urlopen(request, timeout=60) as r:
        return r.read(), r.headers['Hookline-Log'], r.headers['Hookline-Next']


limit = 100
while True:
    log, after = db.execute('select log, after from position').fetchone() or (None, None)
    try:
        text, log, after = page(log, after, limit)
    except urllib.error.HTTPError as e:
        if e.code < 500:  # 410: events behind the position are gone; 409: another log. Somebody has to decide
            sys.exit(f'{e}: {e.read().decode()}')
        print('hookline:', e)
        time.sleep(1)
        continue
    except (OSError, http.client.HTTPException) as e:
        print('hookline:', e)
        time.sleep(1)
        continue
    try:
        rows = [(e['source'], e['id'], e['type'], json.dumps(e)) for e in json.loads(text)]
    except ValueError:  # JSON of a sender that Python does not take, e.g. an integer of 5000 digits
        if limit > 1:  # one by one: what cannot be read alone is noted by its place in the log
            limit = 1
            continue
        rows = [(log, after, 'unreadable', text)]
    limit = 100
    with db:  # one transaction
        db.executemany('insert or ignore into effects values (?, ?, ?, ?)', rows)
        db.execute('insert or replace into position values (1, ?, ?)', (log, after))
