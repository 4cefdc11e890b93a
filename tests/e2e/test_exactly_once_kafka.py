"""Kafka, exactly once, on a real broker: for a read_committed consumer each acknowledged event is there once and in order,
whatever is killed, frozen, copied, restored, taken away or refused (P7). ROUNDS=50 (make long) adds what takes minutes."""
import json
import os
import random
import shutil
import subprocess

from client import Connection, Load, audit, from_kafka, post, signed
from servers import HOOKLINE, Hookline, Kafka, Tap, free_port, stop_all, until

ROUNDS = int(os.environ.get('ROUNDS', '4'))
kafka = None


class GuardedKafka(Kafka):
    """One with a second door: user `hookline` may do there what an ACL says, and nothing until one does."""

    def __init__(self):
        super().__init__()
        self.guarded = f'127.0.0.1:{free_port()}'
        with open(self.properties) as f:
            text = f.read()
        with open(self.properties, 'w') as f:
            f.write(text.replace('\nlisteners=', f'\nlisteners=SASL_PLAINTEXT://{self.guarded},')
                    .replace('advertised.listeners=', f'advertised.listeners=SASL_PLAINTEXT://{self.guarded},') + f"""
inter.broker.listener.name=PLAINTEXT
listener.security.protocol.map=CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT
sasl.enabled.mechanisms=PLAIN
listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required \
user_hookline="secret";
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS
""")

    def tool(self, name, *args):
        r = subprocess.run([*self.java, name, '--bootstrap-server', self.broker, *args], stdout=subprocess.PIPE,
                           stderr=subprocess.STDOUT, text=True)
        assert r.returncode == 0, r.stdout
        return r.stdout

    def acl(self, what, *resources):
        force = ('--force',) if what == '--remove' else ()
        self.tool('org.apache.kafka.tools.AclCommand', what, *force, '--allow-principal', 'User:hookline', '--operation', 'All', *resources)


def need_kafka():
    global kafka
    kafka = kafka or GuardedKafka().start()


def bridge(topic, inside='', more='', broker=None, properties=''):
    need_kafka()
    return Hookline(f'  k: {{ kafka: {{ brokers: "{broker or kafka.broker}", topic: {topic}, '
                    f'create: {{ partitions: 3, replication: 1 }}{inside}, '
                    f'properties: {{ reconnect.backoff.max.ms: 500{properties} }} }}, delivery: exactly-once{more} }}')


def sink(h):
    return h.status()['sinks']['k']


def running(h):
    until('running', lambda: sink(h)['state'] == 'running')


def send(h, *idents):
    c = Connection(h.port)
    c.send(b''.join(signed(i, json.dumps({'type': 'a.b', 'data': {'id': i[:1]}}).encode()) for i in idents))
    for i in idents:
        r = c.reply()
        assert r[0] == 200, r
    c.close()


def ids(topic):
    return [m[0] for m in from_kafka(kafka, topic)]


def once(topic, want):
    got = ids(topic)
    assert sorted(got) == sorted(want), (sorted(set(want) - set(got)), [i for i in got if got.count(i) > 1])


def fork(h):
    r = subprocess.run([HOOKLINE, 'log', 'fork', f'{h.dir}/data'], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert r.returncode == 0 and ' is now ' in r.stdout, r
    return r.stdout.split()[-1]


def ended(h, code):
    until(f'it ends with {code}', lambda: h.p.poll() is not None)
    assert h.p.returncode == code, (h.p.returncode, h.text('log')[-2000:])
    h.p = None


def refuses_to_start(h, says):
    try:
        h.start()
    except RuntimeError as e:
        assert 'ended with 75' in str(e) and says in str(e), e
        h.p = None
        return
    raise AssertionError('it started')


def rights():
    """what may not be done is named: transactional id, hookline.cursor, the topic; each goes on once it is granted"""
    need_kafka()
    h = bridge('guarded', broker=kafka.guarded, properties=(
        ', security.protocol: sasl_plaintext, sasl.mechanisms: PLAIN, sasl.username: hookline, sasl.password: secret')).start()
    name = f'hookline-{h.status()["log"]["id"]}-k'
    try:
        send(h, 'a1', 'a2')
        until('no transactional id', lambda: sink(h)['state'] == 'blocked' and f'transactional id' in sink(h)['reason'])
        assert name in sink(h)['reason'], sink(h)
        kafka.acl('--add', '--transactional-id', name, '--group', name, '--topic', 'guarded')
        until('no topic for the state', lambda: sink(h)['state'] == 'blocked' and 'hookline.cursor' in sink(h)['reason'])
        kafka.acl('--add', '--topic', 'hookline.cursor')  # it may make it now
        until('all there', lambda: h.drained('k') and sink(h)['state'] == 'running')
        kafka.acl('--remove', '--topic', 'guarded')
        send(h, 'a3', 'a4')
        until('the topic is closed', lambda: sink(h)['state'] == 'blocked')
        assert 'guarded' in sink(h)['reason'] or 'authorization' in sink(h)['reason'], sink(h)
        kafka.acl('--add', '--topic', 'guarded')
        until('open again', lambda: h.drained('k') and sink(h)['state'] == 'running')
        once('guarded', ['a1', 'a2', 'a3', 'a4'])
        assert sink(h)['dead'] == 0
    finally:
        stop_all(h)


def kills_under_load():
    """kill -9 again and again, of hookline and of the broker, and frozen brokers: each acknowledged event once, in order"""
    h = bridge('kills', more=', transaction: { interval: 20ms, events: 500 }').start()
    dice = random.Random(os.environ.get('SEED'))
    load = Load(h.port, connections=8)
    try:
        for n in range(ROUNDS):
            load.go_on()
            goal = len(load.acked) + dice.randrange(100, 1500)
            until('more is acknowledged', lambda: len(load.acked) >= goal)
            if n % 4 == 3:
                load.hold()  # a start of the broker takes seconds
                kafka.kill()
                kafka.start()
            if n % 4 == 1:
                kafka.pause()
            h.kill()
            h.start()
            if n % 4 == 1:
                kafka.resume()
        load.stop()
        until('drained', lambda: h.drained('k'), 120)
        repeats = audit(load, from_kafka(kafka, 'kills'), 'kafka')
        assert repeats == 0, f'{repeats} of {len(load.acked)} came twice'
        assert sink(h)['dead'] == 0 and 'warnings' not in sink(h), sink(h)
        print(f'# {len(load.acked)} acknowledged, {ROUNDS} rounds')
    finally:
        load.stop()
        stop_all(h)


def copy_of(h, topic):
    """An atomic copy of the folder: nothing of the original runs meanwhile."""
    other = bridge(topic)
    h.pause()
    shutil.copytree(f'{h.dir}/data', f'{other.dir}/data')
    h.resume()
    return other


def a_copy_that_is_served():
    """a copy beside its original, which it overtakes: the original ends with 75 within one batch, stays away until forked"""
    a = bridge('copies').start()
    b = None
    try:
        running(a)
        send(a, *(f'a{i}' for i in range(20)))
        until('drained', lambda: a.drained('k'))
        b = copy_of(a, 'copies').start()
        running(b)
        send(b, *(f'b{i}' for i in range(20)))
        until('drained', lambda: b.drained('k'))
        send(a, *(f'c{i}' for i in range(20)))  # acknowledged, and kept
        ended(a, 75)
        assert 'taken over by another process' in a.text('data/FENCED')
        for _ in range(2):
            refuses_to_start(a, 'hookline log fork')
        send(b, 'b-more')
        until('the other is well', lambda: b.drained('k') and sink(b)['state'] == 'running')
        new = fork(a)
        a.start()
        assert a.status()['log']['id'] == new
        until('nothing is lost', lambda: a.drained('k'))
        assert sink(a)['state'] == 'running' and 'warnings' not in sink(a), sink(a)
        once('copies', [f'{x}{i}' for x in 'abc' for i in range(20)] + ['b-more'])
    finally:
        stop_all(a, b)


def a_copy_that_is_late():
    """a copy beside its original, which has gone on since: the copy sends nothing until it is forked; a takeover may not skip"""
    a = bridge('late').start()
    b = None
    try:
        running(a)
        send(a, *(f'a{i}' for i in range(20)))
        until('drained', lambda: a.drained('k'))
        b = copy_of(a, 'late')
        send(a, *(f'c{i}' for i in range(20)))
        until('drained', lambda: a.drained('k'))
        b.start()
        until('diverged', lambda: sink(b)['state'] == 'blocked')
        assert sink(b)['reason'].startswith('diverged: the sink is ahead of this log'), sink(b)
        assert f'hookline log fork {b.dir}/data' in sink(b)['reason']
        send(b, *(f'b{i}' for i in range(30)))  # now it has those LSNs too, but other events there
        send(a, 'a-more')
        until('the original is not disturbed for long', lambda: a.drained('k'))
        assert sink(b)['lsn'] == 20 and sink(b)['state'] == 'blocked'
        b.kill()
        b.start(args=('--takeover',))
        until('another event stands there', lambda: 'another event at that LSN' in sink(b)['reason'])
        b.kill()
        fork(b)
        b.start()
        until('nothing is lost', lambda: b.drained('k'))
        send(a, 'a-last')
        until('the original goes on', lambda: a.drained('k'))
        once('late', [f'a{i}' for i in range(20)] + [f'c{i}' for i in range(20)] + [f'b{i}' for i in range(30)] +
             ['a-more', 'a-last'])
    finally:
        stop_all(a, b)


def restored():
    """a folder restored from before: nothing is sent until it is forked, and then nothing new is lost"""
    h = bridge('restored').start()
    try:
        running(h)
        send(h, *(f'a{i}' for i in range(10)))
        until('drained', lambda: h.drained('k'))
        assert h.stop() == 0
        shutil.copytree(f'{h.dir}/data', f'{h.dir}/backup')
        h.start()
        send(h, *(f'b{i}' for i in range(10)))
        until('drained', lambda: h.drained('k'))
        h.kill()
        shutil.rmtree(f'{h.dir}/data')
        os.rename(f'{h.dir}/backup', f'{h.dir}/data')
        h.start()
        until('diverged', lambda: sink(h)['state'] == 'blocked' and sink(h)['reason'].startswith('diverged'))
        send(h, *(f'c{i}' for i in range(10)))
        h.kill()
        h.start()
        until('still', lambda: sink(h)['state'] == 'blocked' and sink(h)['reason'].startswith('diverged'))
        h.kill()
        fork(h)
        h.start()
        until('nothing new is lost', lambda: h.drained('k'))
        once('restored', [f'{x}{i}' for x in 'abc' for i in range(10)])
    finally:
        stop_all(h)


def state_lost():
    """the state is gone (expired, deleted): it goes on from the local cursor, says so, and never starts from the beginning"""
    h = bridge('lost').start()
    try:
        running(h)
        group = f'hookline-{h.status()["log"]["id"]}-k'
        send(h, *(f'a{i}' for i in range(10)))
        until('drained', lambda: h.drained('k'))
        assert h.stop() == 0
        kafka.tool('org.apache.kafka.tools.consumer.group.ConsumerGroupCommand', '--delete-offsets', '--group', group,
                   '--topic', 'hookline.cursor')
        h.start()
        send(h, 'b')
        until('drained', lambda: h.drained('k'))
        until('told', lambda: any(w.startswith('state_lost') for w in sink(h).get('warnings', [])))
        assert b'hookline_sink_state_lost_total{sink="k"} 1' in h.get('/metrics')[1]
        assert h.stop() == 0
        h.start()
        running(h)
        send(h, 'c')
        until('drained', lambda: h.drained('k'))
        assert 'warnings' not in sink(h), 'it is there again'
        once('lost', [f'a{i}' for i in range(10)] + ['b', 'c'])
    finally:
        stop_all(h)


def poison():
    """poison spoils a transaction: found by halving, a dead letter; the others once and in order"""
    need_kafka()
    kafka.create('poison', max_message_bytes=4000)
    h = bridge('poison', properties=', compression.type: gzip', more=', match: { source: demo }').start()
    try:
        running(h)
        kafka.pause()
        c = Connection(h.port)
        bad = {5, 6, 30}
        for i in range(40):
            body = {'type': 'a', 'data': {'id': 'x'}, 'noise': os.urandom(4000).hex() if i in bad else ''}
            c.send(signed(f'p{i}', json.dumps(body).encode()))
            assert c.reply()[0] == 200
        kafka.resume()
        until('through', lambda: h.drained('k') and sink(h)['state'] == 'running', 120)
        assert sink(h)['dead'] == len(bad) and sink(h)['delivered'] == 40 - len(bad), sink(h)
        assert ids('poison') == [f'p{i}' for i in range(40) if i not in bad]
        h.kill()
        h.start()
        running(h)
        until('nothing again', lambda: h.drained('k'))
        assert sink(h)['dead'] == len(bad)
        assert ids('poison') == [f'p{i}' for i in range(40) if i not in bad]
    finally:
        stop_all(h)


def missing_topics():
    """a topic that an event names and that is not there holds up nobody: a dead letter, or the fallback; a fixed one blocks"""
    need_kafka()
    kafka.create('by.there')
    kafka.create('by.rest')
    inside = f'brokers: "{kafka.broker}", properties: {{ reconnect.backoff.max.ms: 500 }}'
    h = Hookline(f"""  k: {{ kafka: {{ topic: "by.{{type}}", {inside} }}, match: {{ type: "*here" }}, delivery: exactly-once }}
  f: {{ kafka: {{ topic: "by.{{type}}", fallback_topic: by.rest, {inside} }}, match: {{ type: nowhere }}, delivery: exactly-once }}
  n: {{ kafka: {{ topic: not-made, {inside} }}, match: {{ type: nowhere }}, delivery: exactly-once }}""").start()
    try:
        for i in range(12):
            r = post(h.port, signed(f'm{i}', json.dumps({'type': 'nowhere' if i % 4 == 1 else 'there'}).encode()))
            assert r[0] == 200
        for name in 'kf':
            until(f'{name} is through', lambda: h.drained(name) and h.status()['sinks'][name]['state'] == 'running')
        s = h.status()['sinks']
        assert s['k']['dead'] == 3 and s['f']['dead'] == 0, s
        assert ids('by.there') == [f'm{i}' for i in range(12) if i % 4 != 1]
        assert ids('by.rest') == ['m1', 'm5', 'm9']
        until('the fixed one is told', lambda: 'not-made does not exist' in h.status()['sinks']['n']['reason'])
        assert h.status()['sinks']['n']['state'] == 'blocked'
        kafka.create('not-made')
        until('it goes on', lambda: h.drained('n') and h.status()['sinks']['n']['state'] == 'running')
        assert ids('not-made') == ['m1', 'm5', 'm9']
    finally:
        stop_all(h)


def topic_made_again():
    """the topic is deleted and made again with other partitions: what was not stored goes there, nothing twice, nothing stuck"""
    h = bridge('again').start()
    try:
        running(h)
        send(h, 'a1', 'a2')
        until('drained', lambda: h.drained('k'))
        kafka.tool('org.apache.kafka.tools.TopicCommand', '--delete', '--topic', 'again')
        send(h, 'b1', 'b2')
        until('it is made again', lambda: h.drained('k') and sink(h)['state'] == 'running', 120)
        send(h, 'c1')
        until('and used', lambda: h.drained('k'))
        once('again', ['b1', 'b2', 'c1'])
    finally:
        stop_all(h)


def frozen_for_long():
    """a broker that stands still for longer than a transaction may take: our own time-out is no rival"""
    import time
    h = bridge('frozen').start()
    load = Load(h.port, connections=4)
    try:
        until('it flows', lambda: sink(h)['delivered'] > 500)
        kafka.pause()
        time.sleep(45)
        kafka.resume()
        until('it flows again', lambda: sink(h)['state'] == 'running', 120)
        h.pause()  # the same from the other side
        time.sleep(45)
        h.resume()
        load.stop()
        until('drained', lambda: h.drained('k'), 240)
        assert h.p.poll() is None
        assert audit(load, from_kafka(kafka, 'frozen'), 'kafka') == 0
    finally:
        load.stop()
        stop_all(h)


try:
    only = os.environ.get('TEST')
    tests = [rights, kills_under_load, a_copy_that_is_served, a_copy_that_is_late, restored, state_lost, poison,
             missing_topics]
    if ROUNDS >= 50 or only:
        tests += [topic_made_again, frozen_for_long]
    Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
finally:
    stop_all(kafka)
