"""Where Redis can be: behind TLS, named by sentinels, spread over a cluster whose slots move under load. Exactly once
wherever it is."""
import os
import subprocess

from client import Load, audit, from_redis
from servers import Hookline, Process, Redis, Tap, free_port, stop_all, until

from test_redis import once, sink


EC = ('ec', '-pkeyopt', 'ec_paramgen_curve:P-256')


def certificates(folder):
    """An authority, and certificates of it for 127.0.0.1 and for a client; another authority."""
    def run(*args):
        subprocess.run(['openssl', *args], check=True, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for ca in ('ca', 'other'):
        run('req', '-x509', '-newkey', *EC, '-nodes', '-keyout', f'{ca}.key', '-out', f'{ca}.pem', '-days', '2',
            '-subj', f'/CN={ca}')
    for name, alt in (('server', 'IP:127.0.0.1'), ('wrong', 'DNS:elsewhere.example'), ('client', 'DNS:client')):
        with open(os.path.join(folder, f'{name}.ext'), 'w') as f:
            f.write(f'subjectAltName={alt}\n')
        run('req', '-newkey', *EC, '-nodes', '-keyout', f'{name}.key', '-out', f'{name}.csr', '-subj', f'/CN={name}')
        run('x509', '-req', '-in', f'{name}.csr', '-CA', 'ca.pem', '-CAkey', 'ca.key', '-CAcreateserial', '-out',
            f'{name}.pem', '-days', '2', '-extfile', f'{name}.ext')


def tls():
    """rediss: the certificate is checked against authority and address, the client shows its own, and kills change nothing"""
    redis, port = Redis('--appendonly', 'yes', '--appendfsync', 'always'), free_port()
    certificates(redis.dir)
    redis.options += ('--tls-port', str(port), '--tls-ca-cert-file', 'ca.pem', '--tls-cert-file', 'server.pem',
                      '--tls-key-file', 'server.key')
    redis.start()
    d = redis.dir
    ours = f'cert: {d}/client.pem, key: {d}/client.key'
    url = f'rediss://127.0.0.1:{port}'
    h = Hookline(sink(url, f', tls: {{ ca: {d}/ca.pem, {ours} }}') + '\n' + sink(
        url, f', stream: other, tls: {{ ca: {d}/other.pem, {ours} }}').replace('  r:', '  other:') + '\n' + sink(
        url, f', stream: anonymous, tls: {{ ca: {d}/ca.pem }}').replace('  r:', '  anonymous:') + '\n' + sink(
        url.replace('127.0.0.1', 'localhost'), f', stream: name, tls: {{ ca: {d}/ca.pem, {ours} }}').replace(
        '  r:', '  name:')).start()
    load = Load(h.port, connections=4)
    try:
        until('some', lambda: len(load.acked) > 300)
        redis.kill()
        redis.start()
        load.stop()
        until('all there', lambda: h.drained('r'), 120)
        once(load, redis)
        for name, says in (('other', 'self-signed certificate'), ('name', 'hostname mismatch')):
            until(f'{name} is refused by us', lambda: says in h.status()['sinks'][name]['reason'])
        assert not any(redis('EXISTS', x) for x in ('other', 'anonymous', 'name'))
    finally:
        load.stop()
        stop_all(h, redis)


class Sentinel(Process):
    def __init__(self, master, quorum):
        super().__init__()
        self.port = free_port()
        with open(os.path.join(self.dir, 'conf'), 'w') as f:
            f.write(f'port {self.port}\ndir {self.dir}\nsentinel monitor main 127.0.0.1 {master.port} {quorum}\n'
                    'sentinel down-after-milliseconds main 500\nsentinel failover-timeout main 2000\n')
        self.spawn(['redis-server', os.path.join(self.dir, 'conf'), '--sentinel'], 'log')

    def ask(self, *args):
        return subprocess.run(['redis-cli', '-p', str(self.port), *args], stdout=subprocess.PIPE, text=True, timeout=30).stdout


def on_port(*options):
    r = Redis(*options)
    r.port = free_port()
    r.options += ('--port', str(r.port))
    return r


def sentinel(comes_back=False):
    """Sentinel: the master is killed, one sentinel is dead: nothing lost, nothing twice on the new master"""
    servers = [on_port('--repl-diskless-sync-delay', '0').start() for _ in range(2)]
    servers[1]('REPLICAOF', '127.0.0.1', servers[0].port)
    until('in sync', lambda: b'master_link_status:up' in servers[1]('INFO', 'replication'))
    watch = [Sentinel(servers[0], 2) for _ in range(3)]
    until('they agree', lambda: all('num-other-sentinels\n2\n' in w.ask('SENTINEL', 'MASTER', 'main') and
                                    'num-slaves\n1\n' in w.ask('SENTINEL', 'MASTER', 'main') for w in watch))
    hosts = ','.join([f'127.0.0.1:{free_port()}'] + [f'127.0.0.1:{w.port}' for w in watch])
    wait = ', wait: { replicas: 1 }' if comes_back else ''
    h = Hookline(sink(f'redis+sentinel://{hosts}/main', more=', delivery: exactly-once' + wait)).start()
    load = Load(h.port, connections=4)
    try:
        until('some', lambda: len(load.acked) > 300 and h.status()['sinks']['r']['delivered'] > 300)
        servers[0].kill()
        until('another master', lambda: b'role:master' in servers[1]('INFO', 'replication'))
        before = len(load.acked)
        until('acknowledgements go on', lambda: len(load.acked) > before + 300)
        if comes_back:  # takes writes for a while, and drops them: it has no replica, so nothing counts
            servers[0].start()
            until('a replica again', lambda: b'master_link_status:up' in servers[0]('INFO', 'replication'), 120)
        load.stop()
        until('all there', lambda: h.drained('r'), 120)
        once(load, servers[1])
        until('running', lambda: h.status()['sinks']['r']['state'] == 'running')
    finally:
        load.stop()
        stop_all(h, *servers, *watch)


def cluster_port():
    while True:
        port = free_port()
        if port < 55000:
            return port


class Cluster:
    def __init__(self, n):
        self.nodes = []
        for _ in range(n):
            r = Redis('--cluster-enabled', 'yes', '--cluster-config-file', 'nodes.conf', '--cluster-node-timeout', '2000',
                      '--appendonly', 'yes', '--appendfsync', 'always')
            r.port = cluster_port()
            r.options += ('--port', str(r.port))
            self.nodes.append(r.start())
        self.cli('--cluster', 'create', *(f'127.0.0.1:{r.port}' for r in self.nodes), '--cluster-yes')
        until('cluster', lambda: all(b'cluster_state:ok' in r('CLUSTER', 'INFO') for r in self.nodes))
        self.ids = [r('CLUSTER', 'MYID').decode() for r in self.nodes]

    def cli(self, *args):
        return subprocess.run(['redis-cli', *args], check=True, stdout=subprocess.PIPE, text=True, timeout=120).stdout

    def owner(self, slot):
        for first, last, master, *_ in self.nodes[0]('CLUSTER', 'SLOTS'):
            if first <= slot <= last:
                return next(i for i, r in enumerate(self.nodes) if r.port == master[1])

    def move(self, stream, halfway):
        """A slot and its keys, one by one, as redis-cli --cluster reshard does it; calls halfway() in the middle."""
        slot = self.nodes[0]('CLUSTER', 'KEYSLOT', stream)
        here = self.owner(slot)
        there = (here + 1) % len(self.nodes)
        source, target = self.nodes[here], self.nodes[there]
        target('CLUSTER', 'SETSLOT', slot, 'IMPORTING', self.ids[here])
        source('CLUSTER', 'SETSLOT', slot, 'MIGRATING', self.ids[there])
        while keys := source('CLUSTER', 'GETKEYSINSLOT', slot, '1'):
            halfway()
            source('MIGRATE', '127.0.0.1', target.port, keys[0], '0', '20000')
        halfway()
        for r in (target, source, *self.nodes):
            r('CLUSTER', 'SETSLOT', slot, 'NODE', self.ids[there])
        until('known', lambda: self.owner(slot) == there)

    def entries(self, stream):
        """From the node that has it now."""
        return self.nodes[self.owner(self.nodes[0]('CLUSTER', 'KEYSLOT', stream))].entries(stream)


def cluster(moves=1):
    """Cluster: slots move under load in both modes, a node is killed: nothing lost, exactly once nothing twice"""
    c = Cluster(3)
    first = ','.join([f'127.0.0.1:{free_port()}', f'127.0.0.1:{c.nodes[0].port}'])
    h = Hookline(sink(f'redis+cluster://{first}', ', stream: "hooks:{source}"') + '\n' + sink(
        f'redis+cluster://{first}', ', stream: "least:{source}"', '').replace('  r:', '  l:')).start()
    load = Load(h.port, connections=4)
    try:
        until('some', lambda: len(load.acked) > 300 and h.status()['sinks']['r']['delivered'] > 300)
        for _ in range(moves):
            for stream in ('hooks:demo', 'least:demo'):
                def some():
                    before = len(load.acked)
                    until('load', lambda: len(load.acked) > before + 50)
                c.move(stream, some)
        slot = c.nodes[0]('CLUSTER', 'KEYSLOT', 'hooks:demo')
        gone = c.nodes[c.owner(slot)]
        gone.kill()
        before = len(load.acked)
        until('load', lambda: len(load.acked) > before + 200)
        gone.start()
        load.stop()
        until('all there', lambda: h.drained('r') and h.drained('l'), 120)
        once(load, c)
        repeats = audit(load, from_redis(c, 'least:demo'), 'least')
        print(f'# {len(load.acked)} events, each once; at least once repeated {repeats}')
    finally:
        load.stop()
        stop_all(h, *c.nodes)


if __name__ == '__main__':
    Tap().run(tls, sentinel, cluster)
