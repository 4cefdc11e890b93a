"""Damaged logs through the binary: refused and repaired, set aside at a start and while it runs; and copies of a running folder."""
import glob
import json
import os
import re
import subprocess

from client import Load, audit, from_redis
from servers import HOOKLINE, Hookline, Redis, Tap, stop_all, until


def cli(*args):
    return subprocess.run([HOOKLINE, *args], stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=120)


def sink_of(redis):
    return f'  r: {{ redis: {{ url: "unix:{redis.socket}", stream: "hooks:demo" }} }}'


def set_log(h, more):
    """More settings of the log than all tests have."""
    text = open(h.config).read()
    with open(h.config, 'w') as f:
        f.write(text.replace('allow_volatile: true', f'allow_volatile: true, {more}'))


def flip_body_of(h, ident):
    """One bit of that event's body, in whichever segment it stands."""
    for path in sorted(glob.glob(f'{h.dir}/data/*.wal')):
        with open(path, 'r+b') as f:
            at = f.read().find(ident.encode())
            if at >= 0:
                f.seek(at + len(ident) + 40)
                byte = f.read(1)[0]
                f.seek(at + len(ident) + 40)
                f.write(bytes([byte ^ 4]))
                return
    raise AssertionError(f'{ident} is in no segment')


def backlog(h, total=400):
    """Events that are acknowledged while the sink is away; (load, one of the first, its LSN)."""
    load = Load(h.port, connections=4, total=total)
    load.join()
    assert len(load.acked) == total
    ident = min(load.acked, key=lambda i: abs(load.acked[i] - 20))
    return load, ident, load.acked[ident]


def check_rest(h, redis, load, ident):
    redis.start()
    until('all is delivered', lambda: h.drained('r'))
    delivered = from_redis(redis)
    assert all(d[0] != ident for d in delivered), f'{ident} was delivered though it is damaged'
    rest = {i: lsn for i, lsn in load.acked.items() if i != ident}
    assert audit(load, delivered, 'redis', rest) == 0
    assert len(delivered) == len(rest)


def lost_in_status(h):
    damage = h.status()['log']['damage']
    return damage['lost_events'], [(k['lost_from'], k['lost_to']) for k in damage['latest'] if 'lost_from' in k]


def refused_and_repaired():
    """case 33: a flipped bit refuses the start and names the repair; repaired, all others arrive and the lost LSN is named"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    data = os.path.join(h.dir, 'data')
    try:
        h.start()
        load, ident, lsn = backlog(h)
        assert cli('log', 'repair', data).returncode == 75  # somebody has the folder
        h.kill()
        flip_body_of(h, ident)
        assert cli('log', 'verify', data).returncode == 65
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'refused')
        assert h.p.wait(60) == 65
        h.p = None
        assert re.search(rf"corrupt record seg 0{{15}}1.wal off \d+ \(LSN {lsn} is acknowledged\); \d+ later records intact; "
                         r"run 'hookline log repair'", h.text('refused')), h.text('refused')
        r = cli('log', 'repair', data)
        assert r.returncode == 0 and f'LSN {lsn} lost'.encode() in r.stdout and b' 1 LSNs lost in all' in r.stdout, r
        r = cli('log', 'repair', data)
        assert r.returncode == 0 and b'nothing to repair' in r.stdout and f'LSN {lsn} lost'.encode() in r.stdout, r
        assert cli('log', 'verify', data).returncode == 0
        kept, = glob.glob(f'{data}/0000000000000001-*.bad')
        assert ident.encode() in open(kept, 'rb').read()
        h.start()
        check_rest(h, redis, load, ident)
        assert lost_in_status(h) == (1, [(lsn, lsn)])
        assert b'hookline_sink_lost_total{sink="r"} 1' in h.get('/metrics')[1]
        assert h.get(f'/v1/events/{lsn}')[0] == 410 and h.get(f'/v1/events/{lsn + 1}')[0] == 200
        more = Load(h.port, connections=1, total=1)
        more.join()
        assert min(more.acked.values()) > max(load.acked.values())  # the lost LSN is not given again
    finally:
        stop_all(h, redis)


def quarantined_at_a_start():
    """case 33: on_damage: quarantine: the same start goes on, and names the lost LSN in the log and in /status"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    set_log(h, 'on_damage: quarantine')
    try:
        h.start()
        load, ident, lsn = backlog(h)
        h.kill()
        flip_body_of(h, ident)
        h.start()
        assert lost_in_status(h) == (1, [(lsn, lsn)])
        assert re.search(rf'damaged events are lost.*lsn={lsn} ', h.text('log')), h.text('log')
        check_rest(h, redis, load, ident)
    finally:
        stop_all(h, redis)


def quarantined_while_running():
    """case 33: on_damage: quarantine: a sink that meets damage goes on without it, while it runs"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    set_log(h, 'on_damage: quarantine')
    try:
        h.start()
        load, ident, lsn = backlog(h, 12000)  # more than the sink holds in its window
        late = max(load.acked, key=load.acked.get)
        flip_body_of(h, late)
        check_rest(h, redis, load, late)
        until('the loss in /status', lambda: lost_in_status(h) == (1, [(load.acked[late],) * 2]))
        assert h.status()['sinks']['r']['state'] == 'running'
    finally:
        stop_all(h, redis)


def blocked_while_running():
    """case 33: on_damage: refuse: the sink that meets damage stops there and says so; senders are served"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    try:
        h.start()
        load, _, _ = backlog(h, 12000)
        late = max(load.acked, key=load.acked.get)
        flip_body_of(h, late)
        redis.start()
        until('the sink is blocked', lambda: h.status()['sinks']['r']['state'] == 'blocked')
        assert f'LSN {load.acked[late]}; run' in h.status()['sinks']['r']['reason']
        more = Load(h.port, connections=1, total=5)
        more.join()
        assert len(more.acked) == 5
        assert lost_in_status(h) == (0, [])
    finally:
        stop_all(h, redis)


def copy_while_running():
    """a copy of a running folder, cursors first and segments from the youngest to the oldest, starts elsewhere with all that was acknowledged"""
    redis = Redis()
    h = Hookline(sinks=sink_of(redis))
    set_log(h, 'retain: 1h')
    with open(h.config) as f:
        text = f.read()
    with open(h.config, 'w') as f:
        f.write(text.replace('segment_bytes: 8MiB', 'segment_bytes: 2MiB'))
    copy = Hookline()
    load = None
    try:
        redis.start()
        h.start()
        load = Load(h.port, connections=8)
        until('several segments', lambda: h.status()['log']['segments'] >= 3)
        acked = load.acked_so_far()
        script = f'mkdir {copy.dir}/data && cd {h.dir}/data && tar c id sink-* $(ls -r *.wal) *.idx | tar x -C {copy.dir}/data'
        subprocess.run(['sh', '-ec', script], check=True, timeout=120)
        load.stop()
        with open(h.config) as f:
            text = f.read()
        other = Redis()
        with open(copy.config, 'w') as f:
            f.write(text.replace(h.dir, copy.dir).replace(f':{h.port}', f':{copy.port}').replace(f':{h.admin}', f':{copy.admin}')
                    .replace(redis.socket, other.socket))
        other.start()
        copy.start()
        until('the copy has delivered', lambda: copy.drained('r'))
        events, after = {}, 0
        while page := json.loads(copy.get(f'/v1/events?after={after}&limit=1000')[1]):
            events.update((e['id'], int(e['lsn'])) for e in page)
            after = int(page[-1]['lsn'])
        missing = [i for i, lsn in acked.items() if events.get(i) != lsn]
        assert not missing, f'{len(missing)} of {len(acked)} are not in the copy'
        first = {d[0] for d in from_redis(redis)} | {d[0] for d in from_redis(other)}
        assert set(acked) <= first, 'what the copy took over was not delivered'
        assert copy.stop() == 0
        assert cli('log', 'verify', f'{copy.dir}/data').returncode == 0
    finally:
        if load:
            load.stop()
        stop_all(h, copy, redis, other if 'other' in locals() else None)


if __name__ == '__main__':
    Tap().run(refused_and_repaired, quarantined_at_a_start, quarantined_while_running, blocked_while_running, copy_while_running)
