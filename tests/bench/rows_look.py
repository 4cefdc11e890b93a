"""Row about looking events up in a large log."""
import json
import os
import random
import shutil
import statistics
import time
import urllib.parse

from lab import FOLDER, ROUNDS, Server, alone, tool
from rows_once import RETAINED
from servers import Skip

LOOKS = 15  # of a kind in a round, each at another place


def forget():
    """No page of any file is in memory."""
    os.sync()
    with open('/proc/sys/vm/drop_caches', 'w') as f:
        f.write('1')


def look(hookline, event, query, cold):
    """Milliseconds from the request to the event."""
    if cold:
        forget()
    start = time.perf_counter()
    _, body, _ = hookline.get('/v1/events?limit=1&' + urllib.parse.urlencode(query))
    took = (time.perf_counter() - start) * 1e3
    found = json.loads(body)
    if not found or 'id' in query and found[0] != event or found[0]['time'] != event['time']:
        raise RuntimeError(f'{query}: not found')
    return took


def one_round(hookline, last):
    """Medians of both kinds, cold and warm."""
    took = {}
    for _ in range(LOOKS):
        event = json.loads(hookline.get(f'/v1/events/{random.randint(1, last)}')[1])
        for kind, query in (('id', {'id': event['id']}), ('time', {'from': event['time']})):
            for cold in (True, False):
                took.setdefault((kind, cold), []).append(look(hookline, event, query, cold))
    return {k: statistics.median(v) for k, v in took.items()}


def look_up(row):
    os.makedirs(FOLDER, exist_ok=True)
    free = shutil.disk_usage(FOLDER).free
    if free < RETAINED + (4 << 30):
        raise Skip(f'{free >> 30} GiB are free, {(RETAINED >> 30) + 4} are needed')
    hookline = Server('look')
    with open(hookline.config) as f:
        text = f.read().replace('log: {', f'log: {{ retain_bytes: {2 * RETAINED},')
    with open(hookline.config, 'w') as f:
        f.write(text)
    try:
        tool('append', hookline.log, '-b', RETAINED)
        hookline.start()
        last = hookline.status()['log']['durable_lsn']
        rounds = [one_round(hookline, last) for _ in range(ROUNDS)]
    finally:
        hookline.clean()
    parts = {f'{kind}_{"cold" if cold else "warm"}_ms': round(statistics.median(r[kind, cold] for r in rounds), 2) for kind, cold in rounds[0]}
    return alone(row, [max(r['id', True], r['time', True]) for r in rounds], parts)


ROWS = [{'id': 'look-up', 'name': 'look-up by time or id in 10 GiB of retained log, cold, the slower of both', 'unit': 'ms', 'better': 'lower',
         'gate': 200, 'target': 20, 'run': look_up}]
