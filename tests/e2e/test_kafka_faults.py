"""case 37: a Kafka sink while its cluster is in trouble: leaders killed, too few replicas, a link that loses packets."""
import json
import os
import shutil
import subprocess
import sys

from client import Load, audit, from_kafka
from cluster import Cluster
from servers import Hookline, Kafka, Skip, Tap, stop_all, until

INSIDE = 'HOOKLINE_LOSSY_NETWORK'
cluster = None


def need_cluster():
    global cluster
    cluster = cluster or Cluster().start()


def sink(broker, topic):
    return f'  k: {{ kafka: {{ brokers: "{broker}", topic: {topic}, properties: {{ reconnect.backoff.max.ms: 500 }} }} }}'


def busy(load, more=500):
    want = len(load.acked) + more
    until('acknowledgements go on', lambda: len(load.acked) >= want)


def delivered(h):
    return h.status()['sinks']['k']['delivered']


def all_arrived(h, load, kafka, topic):
    """Nothing lost, the order kept, and nothing twice, since hookline itself lived on."""
    until('kafka has all', lambda: h.drained('k'), 180)
    assert audit(load, from_kafka(kafka, topic), 'Kafka') == 0, 'came again'
    assert h.status()['sinks']['k']['dead'] == 0
    assert '_MSG_TIMED_OUT' not in h.text('log') and 'Message timed out' not in h.text('log')


def in_sync(topic):
    text = cluster.listing(topic)
    return len(text.split('isrs: ')[1].split('\n')[0].split(',')) if 'isrs: ' in text else 0


def leaders_killed():
    """case 37: three brokers, leaders killed under load until NOT_ENOUGH_REPLICAS: nothing lost, nothing twice, order kept"""
    need_cluster()
    cluster.create('led', [2, 3, 1], min_insync_replicas=2)
    h = Hookline(sink(cluster.broker, 'led')).start()
    load = Load(h.port, connections=4, gap=0.002)
    try:
        until('some are delivered', lambda: delivered(h) > 200)
        assert cluster.leader('led') == 2
        cluster.node(2).kill()
        until('another leads', lambda: cluster.leader('led') in (1, 3), 120)
        before = delivered(h)
        until('delivery goes on', lambda: delivered(h) > before + 200, 120)
        cluster.node(3).kill()
        until('one leads alone', lambda: cluster.leader('led') == 1 and in_sync('led') == 1, 120)
        stands = delivered(h)
        busy(load, 2000)
        assert h.get('/readyz')[0] == 200 and not load.refused
        assert delivered(h) - stands < 2000, 'it was delivered with fewer replicas than the topic wants'
        cluster.node(3).start()
        until('two are in sync', lambda: in_sync('led') == 2, 120)
        load.stop()
        assert not load.refused, load.refused
        all_arrived(h, load, cluster.kafka, 'led')
    finally:
        load.stop()
        stop_all(h)


def packets_lost():
    """case 37: 40 % of the packets to the broker are lost: acknowledgements go on, everything arrives, order kept"""
    if not (shutil.which('nft') and shutil.which('unshare') and shutil.which('ip')):
        raise Skip('nft, unshare or ip is not installed')
    if subprocess.run(['unshare', '-n', 'sh', '-c', 'ip link set lo up && nft add table inet t'], stderr=subprocess.DEVNULL).returncode:
        raise Skip('no network of our own can be made here')
    Kafka().clean()  # fetched where there is a network, else this is skipped
    r = subprocess.run(['unshare', '-n', 'sh', '-c', 'ip link set lo up && exec "$@"', 'sh', sys.executable, __file__],
                       env={**os.environ, INSIDE: '1'}, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=400)
    text = r.stdout.decode(errors='replace')
    assert r.returncode == 0, text
    print('# ' + text.strip())


def nft(*words):
    subprocess.run(['nft', *words], check=True)


def in_the_lossy_network():
    """What packets_lost() runs in a network namespace of its own: all of it talks over the loopback of that."""
    kafka, h, load = Kafka(), None, None
    try:
        kafka.start()
        kafka.create('lossy')
        h = Hookline(sink(kafka.broker, 'lossy')).start()
        load = Load(h.port, connections=2, gap=0.02)
        until('some are delivered', lambda: delivered(h) > 50)
        nft('add', 'table', 'inet', 't')
        nft('add', 'chain', 'inet', 't', 'in', '{ type filter hook input priority 0; }')
        nft('add', 'rule', 'inet', 't', 'in', f'tcp dport {kafka.port} numgen random mod 100 < 40 counter drop')
        before = delivered(h)
        busy(load, 300)
        until('some arrive all the same', lambda: delivered(h) > before, 120)
        dropped = int(subprocess.run(['nft', 'list', 'chain', 'inet', 't', 'in'], stdout=subprocess.PIPE, check=True)
                      .stdout.decode().split('packets ')[1].split()[0])
        assert dropped > 0 and not load.refused
        nft('flush', 'chain', 'inet', 't', 'in')
        load.stop()
        all_arrived(h, load, kafka, 'lossy')
        print(f'{dropped} packets lost, {len(load.acked)} acknowledged, all delivered once')
    except BaseException:
        if h:
            print(json.dumps(h.status()['sinks']), h.text('log')[-3000:])
        raise
    finally:
        if load:
            load.stop()
        stop_all(h, kafka)


if os.environ.get(INSIDE):
    in_the_lossy_network()
else:
    try:
        only = os.environ.get('TEST')
        tests = (leaders_killed, packets_lost)
        Tap().run(*[t for t in tests if not only or t.__name__ in only.split(',')])
    finally:
        stop_all(cluster)
