#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Consumes hookline's events from a Redis stream; each takes effect once, whatever is killed when.

Install: apt-get install python3-redis     (or: pip install redis)
Run:     redis_consumer.py --url redis://127.0.0.1:6379/0 --stream hooks:gemini --db events.db

The effect here is a row keyed by the event's source and id: a repeat changes nothing. An entry is
acknowledged after its effect, so a crash in between repeats it and loses nothing. What was
delivered again and again without an acknowledgement crashes its consumers: it goes to the stream
STREAM:dead. Errors of the connection end the program; started again, it goes on where it was."""
import argparse
import socket
import sqlite3

import redis

p = argparse.ArgumentParser()
p.add_argument('--url', default='redis://127.0.0.1:6379/0')
p.add_argument('--stream', default='hooks:gemini')
p.add_argument('--group', default='example')
p.add_argument('--consumer', default=socket.gethostname(), help='the same after a restart, unlike all others')
p.add_argument('--idle', type=int, default=60000, help='ms after which what another consumer holds is taken over')
p.add_argument('--deliveries', type=int, default=5, help='more than this: to the dead stream')
p.add_argument('--db', default='events.db')
p.add_argument('--print', action='store_true', help='show each event')
args = p.parse_args()

db = sqlite3.connect(args.db)
db.execute('create table if not exists effects'
           ' (source text, id text, type text, body blob, primary key (source, id))')
server = redis.Redis.from_url(args.url)


def effect(entry_id, fields):
    source, ident, kind = (fields.get(name, b'').decode(errors='backslashreplace') for name in (b'source', b'id', b'type'))
    if not ident:  # not from hookline: the entry's own id names it
        source, ident = args.stream, entry_id.decode()
    db.execute('insert or ignore into effects values (?, ?, ?, ?)', (source, ident, kind, fields.get(b'body')))
    if args.print:
        print(source, ident, kind, flush=True)


def bury(entry_id, fields, times):
    with server.pipeline(transaction=True) as both:
        both.xadd(args.stream + ':dead', {**fields, 'deliveries': times, 'entry': entry_id})
        both.xack(args.stream, args.group, entry_id)
        both.execute()


def handle(entries, again):
    """The effects, then the acknowledgements. `again`: they were delivered before."""
    good = []
    for entry_id, fields in entries:
        if again and fields:
            pending = server.xpending_range(args.stream, args.group, entry_id, entry_id, 1)
            if pending and pending[0]['times_delivered'] > args.deliveries:
                bury(entry_id, fields, pending[0]['times_delivered'])
                continue
        if fields:  # else it was trimmed from the stream: nothing is left to do
            effect(entry_id, fields)
        good.append(entry_id)
    db.commit()
    if good:
        server.xack(args.stream, args.group, *good)


def read(start, block=None):
    got = server.xreadgroup(args.group, args.consumer, {args.stream: start}, count=100, block=block)
    return got[0][1] if got else []


try:  # at 0: a new group starts with what is already there
    server.xgroup_create(args.stream, args.group, id='0', mkstream=True)
except redis.ResponseError as e:
    if not str(e).startswith('BUSYGROUP'):
        raise

while own := read('0'):  # first what we had when we died
    handle(own, again=True)
while True:
    start = b'0-0'
    while True:  # then what others had when they died
        start, entries = server.xautoclaim(args.stream, args.group, args.consumer, args.idle, start, count=100)[:2]
        handle(entries, again=True)
        if start == b'0-0':
            break
    handle(read('>', block=2000), again=False)
