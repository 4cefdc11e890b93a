"""Redis, exactly once and confirmed by replicas: kills on both sides, a replica that is promoted without the tail, what
WAIT holds back, what trimming keeps."""
import os
import random
import shutil
import subprocess
import time

from client import Load, audit, from_redis, post, signed
from servers import HOOKLINE, Hookline, Redis, Tap, free_port, stop_all, until

ROUNDS = int(os.environ.get('ROUNDS', '3'))
random.seed(int(os.environ.get('SEED', '0')) or None)


def sink(url, inside='', more=', delivery: exactly-once'):
    return f'  r: {{ redis: {{ url: "{url}"{inside} }}{more} }}'


def once(load, redis, stream='hooks:demo', acked=None):
    """Acknowledged is in the stream; nothing is there twice; the whole stream rises."""
    rows = from_redis(redis, stream)
    assert audit(load, rows, stream, acked) == 0, 'something is there twice'
    lsns = [row[1] for row in rows]
    assert lsns == sorted(set(lsns)), 'the stream does not rise'
    return len(rows)


def kills(rounds=ROUNDS):
    """case 39: kill -9 of hookline and of Redis (appendfsync always), again and again: each event once, in order"""
    redis = Redis('--appendonly', 'yes', '--appendfsync', 'always').start()
    h = Hookline(sink(f'unix:{redis.socket}')).start()
    load = Load(h.port, connections=8)
    try:
        for _ in range(rounds):
            time.sleep(random.uniform(0.05, 0.5))
            victims = random.choice([[h], [h], [redis], [h, redis], [redis, h]])
            for v in victims:
                v.kill()
            for v in victims:
                v.start()
            load.hold()
            acked = load.acked_so_far()
            until('all acknowledged', lambda: h.passed('r', max(acked.values(), default=0)), 120)
            once(load, redis, acked=acked)
            load.go_on()
        load.stop()
        until('drained', lambda: h.drained('r'), 120)
        print(f'# {rounds} rounds, {once(load, redis)} events, each once')
    finally:
        load.stop()
        stop_all(h, redis)


def replicated(*more):
    """A master, a replica, and a link that hookline follows to one of them."""
    options = (*more, '--port', '0', '--repl-diskless-sync-delay', '0', '--repl-ping-replica-period', '1')
    master, replica = Redis(*options), Redis(*options)
    for r in (master, replica):
        r.port = free_port()
        r.options += ('--port', str(r.port))
        r.start()
    replica('REPLICAOF', '127.0.0.1', master.port)
    until('in sync', lambda: b'master_link_status:up' in replica('INFO', 'replication'))
    link = os.path.join(master.dir, 'current')
    os.symlink(master.socket, link)
    return master, replica, link


def promote(master, replica, link):
    os.symlink(replica.socket, link + '.new')
    os.rename(link + '.new', link)
    master.kill()


def promoted_without_the_tail():
    """case 39: a replica is promoted without the tail: what it lacks is sent again from the log, the rest is not"""
    master, replica, link = replicated()
    h = Hookline(sink(f'unix:{link}')).start()
    load = Load(h.port, connections=8)
    try:
        until('some', lambda: replica('XLEN', 'hooks:demo') > 300)
        replica('REPLICAOF', 'NO', 'ONE')  # from here on it hears of nothing
        had = replica('XLEN', 'hooks:demo')
        until('a tail', lambda: master('XLEN', 'hooks:demo') > had + 300)
        load.stop()
        until('all confirmed by the master', lambda: h.drained('r'))
        promote(master, replica, link)
        until('all on the replica', lambda: replica('XLEN', 'hooks:demo') >= len(load.acked), 120)
        until('drained', lambda: h.drained('r'), 120)
        once(load, replica)
    finally:
        load.stop()
        stop_all(h, master, replica)


def waits_for_replicas():
    """wait: the cursor stands while the replica is away, and goes on behind it; no event is sent again meanwhile"""
    master, replica, link = replicated('--appendonly', 'yes')  # WAITAOF where the server has it
    h = Hookline(sink(f'unix:{link}', more=', wait: { replicas: 1, timeout: 100ms }') + '\n' +
                 sink(f'unix:{link}', ', stream: once', ', delivery: exactly-once, wait: { replicas: 1, timeout: 100ms }'
                      ).replace('  r:', '  o:')).start()
    try:
        for i in range(5):
            assert post(h.port, signed(f'a{i}', b'{}'))[0] == 200
        until('confirmed', lambda: h.drained('r') and h.drained('o'))
        replica.pause()
        for i in range(5):
            assert post(h.port, signed(f'b{i}', b'{}'))[0] == 200
        until('stored', lambda: master('XLEN', 'hooks:demo') == master('XLEN', 'once') == 10)
        for name in 'ro':
            until('said', lambda: '0 of 1 replicas' in h.status()['sinks'][name]['reason'])
            assert h.status()['sinks'][name]['lsn'] == 5
        replica.resume()
        until('confirmed', lambda: h.drained('r') and h.drained('o'))
        assert master('XLEN', 'hooks:demo') == master('XLEN', 'once') == 10
        until('running', lambda: all(s['state'] == 'running' for s in h.status()['sinks'].values()))
    finally:
        stop_all(h, master, replica)


def trims_what_is_consumed():
    """trim: consumed keeps what any group still needs, and cuts what all have confirmed"""
    redis = Redis('--stream-node-max-entries', '10').start()
    h = Hookline(sink(f'unix:{redis.socket}', ', trim: consumed') + '\n' +
                 sink(f'unix:{redis.socket}', ', trim: consumed, stream: least', '').replace('  r:', '  l:')).start()
    try:
        for i in range(100):
            assert post(h.port, signed(f'm{i}', b'{}'))[0] == 200
        until('there', lambda: h.drained('r') and h.drained('l'))
        for stream in ('hooks:demo', 'least'):
            for group in ('fast', 'slow'):
                redis('XGROUP', 'CREATE', stream, group, '0')
            redis('XREADGROUP', 'GROUP', 'fast', 'c', 'COUNT', '100', 'NOACK', 'STREAMS', stream, '>')
            got = redis('XREADGROUP', 'GROUP', 'slow', 'c', 'COUNT', '90', 'STREAMS', stream, '>')[0][1]
            for i, _ in got[:50]:
                redis('XACK', stream, 'slow', i)
        for stream in ('hooks:demo', 'least'):
            until(f'{stream} is cut', lambda: redis('XLEN', stream) == 50)
            assert redis.entries(stream)[0][1]['lsn'] == b'51', 'the oldest that is not confirmed'
            for pending in redis('XPENDING', stream, 'slow', '-', '+', '100'):
                redis('XACK', stream, 'slow', pending[0])
        until('cut again', lambda: redis('XLEN', 'hooks:demo') <= 20)
        assert redis.entries('hooks:demo')[-1][1]['lsn'] == b'100'
    finally:
        stop_all(h, redis)


def rivals():
    """a copy of a running folder sends nothing; taken over, the original ends for good; after log fork both deliver"""
    redis = Redis().start()
    h, copy = Hookline(sink(f'unix:{redis.socket}')).start(), Hookline(sink(f'unix:{redis.socket}'))
    sent = []

    def send(to):
        sent.append(f'm{len(sent)}')
        assert post(to.port, signed(sent[-1], b'{}'))[0] == 200

    def fork(of):
        subprocess.run([HOOKLINE, 'log', 'fork', os.path.join(of.dir, 'data')], check=True, stdout=subprocess.DEVNULL)

    try:
        send(h)
        until('there', lambda: h.drained('r'))
        shutil.copytree(os.path.join(h.dir, 'data'), os.path.join(copy.dir, 'data'))
        h.kill()
        h.start()  # with an epoch that the copy does not know
        until('claimed', lambda: h.status()['sinks']['r']['state'] == 'running')
        copy.start()
        until('diverged', lambda: 'diverged' in copy.status()['sinks']['r']['reason'])
        copy.stop()
        copy.start(args=('--takeover',))
        until('taken over', lambda: copy.status()['sinks']['r']['state'] == 'running')
        send(copy)
        send(h)
        until('the original ends', lambda: h.p.poll() is not None)
        assert h.p.wait() == 75 and 'FENCED' in os.listdir(os.path.join(h.dir, 'data'))
        until('it is refused', lambda: subprocess.run([HOOKLINE, 'serve', '-c', h.config], stdout=subprocess.DEVNULL,
                                                      stderr=subprocess.DEVNULL).returncode == 75)
        fork(h)
        h.start()
        for x in (h, copy):
            until('there', lambda: x.drained('r'))
        assert [f['id'].decode() for _, f in redis.entries('hooks:demo')] == sent
    finally:
        stop_all(h, copy, redis)


def least_rights():
    """a user with the rights that the manual names, exactly once; without one of them the sink says which"""
    redis = Redis().start()
    rights = '+evalsha +script|load +hget +hset +hkeys +xadd +info'.split()
    redis('ACL', 'SETUSER', 'least', 'on', '>pw', '~hooks:*', '~hookline:*', *rights)
    h = Hookline(sink(f'unix:{redis.socket}', ', user: least, password: pw')).start()
    try:
        assert post(h.port, signed('m1', b'{}'))[0] == 200
        until('there', lambda: h.drained('r'))
        assert 'warnings' not in h.status()['sinks']['r']
        redis('ACL', 'SETUSER', 'least', '-xadd')
        assert post(h.port, signed('m2', b'{}'))[0] == 200
        until('blocked', lambda: h.status()['sinks']['r']['state'] == 'blocked')
        redis('ACL', 'SETUSER', 'least', '+xadd')
        until('there', lambda: h.drained('r'))
        assert [f['id'] for _, f in redis.entries('hooks:demo')] == [b'm1', b'm2']
    finally:
        stop_all(h, redis)


if __name__ == '__main__':
    Tap().run(kills, promoted_without_the_tail, waits_for_replicas, trims_what_is_consumed, rivals, least_rights)
