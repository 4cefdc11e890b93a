"""Reads what sinks hold: Kafka through kcat, as a read_committed consumer sees it, Redis by its own protocol,
dead letters from the bridge. Each yields the dicts that verdict.py judges, those of one place in its order."""
import hashlib
import json
import re
import socket
import ssl
import subprocess
import urllib.parse
import urllib.request

CHUNK = 1 << 20
MARK, BETWEEN = b'\x1e\x1d', b'\x1f'


def sha256(data):
    return hashlib.sha256(data).hexdigest()


# kcat writes headers as a=b,c=d and escapes nothing; a name is in lower case
HEADER = re.compile(r',(?=[a-z0-9_.-]+=)')


def kafka_messages(broker, topic, partition=None, offset=None, options=()):
    """(partition, offset, key, {header: text}, value), committed ones only; of one partition from an offset on, or all."""
    where = [] if partition is None else ['-p', str(partition), '-o', str(offset)]
    argv = ['kcat', '-b', broker, '-C', '-t', topic, *where, '-e', '-q', '-X', 'isolation.level=read_committed',
            *[x for o in options for x in ('-X', o)], '-f', '%p\x1f%o\x1f%k\x1f%h\x1f%S\x1f%s\x1e\x1d']
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as p:
        data = b''
        while (more := p.stdout.read(CHUNK)):
            data += more
            at = 0
            while (one := whole(data, at)):
                message, at = one
                yield message
            data = data[at:]
    if p.returncode or data:
        raise OSError(f'kcat ended with {p.returncode} while it read {topic}' + (' in the middle of a message' if data else ''))


def whole(data, at):
    """The message that begins there and where the next one does; nothing while it is not whole."""
    head = data[at:at + 65536].split(BETWEEN, 5)
    if len(head) < 6:
        return None
    begin = at + sum(len(x) + 1 for x in head[:5])
    end = begin + max(int(head[4]), 0)
    if len(data) < end + len(MARK):
        return None
    if data[end:end + len(MARK)] != MARK:
        raise ValueError(f'what kcat wrote cannot be taken apart behind offset {head[1].decode()}')
    headers = dict(h.split('=', 1) for h in HEADER.split(head[3].decode('utf-8', 'replace')) if '=' in h)
    return (int(head[0]), int(head[1]), head[2].decode('utf-8', 'replace'), headers, data[begin:end]), end + len(MARK)


def from_kafka(broker, topic, after=None, sink='kafka', options=()):
    """`after`: {partition: the last offset that is known already}."""
    parts = [kafka_messages(broker, topic, options=options)] if not after else [
        kafka_messages(broker, topic, p, o + 1, options) for p, o in after.items()]
    for part in parts:
        for partition, offset, key, h, value in part:
            yield {'sink': sink, 'place': f'{topic}/{partition}', 'at': str(offset), 'source': h.get('ce_source', ''),
                   'id': h.get('ce_id'), 'key': key, 'log': h.get('ce_logid'), 'lsn': int(h.get('ce_lsn', 0)),
                   'sha256': sha256(value), **({'replay': h['ce_replay']} if 'ce_replay' in h else {})}


class Redis:
    """One connection that speaks RESP2. url: redis://[user:password@]host:port[/db], rediss://, unix:/path."""

    def __init__(self, url, password=None, timeout=60):
        u = urllib.parse.urlsplit(url)
        if u.scheme == 'unix':
            self.s = socket.socket(socket.AF_UNIX)
            self.s.settimeout(timeout)
            self.s.connect(u.path)
        else:
            self.s = socket.create_connection((u.hostname, u.port or 6379), timeout)
            if u.scheme == 'rediss':
                self.s = ssl.create_default_context().wrap_socket(self.s, server_hostname=u.hostname)
        self.f = self.s.makefile('rb')
        password = password or urllib.parse.unquote(u.password or '')
        if password:
            self('AUTH', *([urllib.parse.unquote(u.username)] if u.username else []), password)
        if u.scheme != 'unix' and u.path.strip('/'):
            self('SELECT', u.path.strip('/'))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.f.close()
        self.s.close()

    def __call__(self, *command):
        words = [x if isinstance(x, bytes) else str(x).encode() for x in command]
        self.s.sendall(b'*%d\r\n' % len(words) + b''.join(b'$%d\r\n%s\r\n' % (len(w), w) for w in words))
        return self.reply()

    def reply(self):
        line = self.f.readline()
        kind, rest = line[:1], line[1:-2]
        if not line:
            raise OSError('the server closed the connection')
        if kind == b'+':
            return rest
        if kind == b'-':
            raise RuntimeError(rest.decode())
        if kind == b':':
            return int(rest)
        if kind == b'$':
            return None if rest == b'-1' else self.f.read(int(rest) + 2)[:-2]
        return [self.reply() for _ in range(int(rest))]

    @staticmethod
    def behind(i):
        """The next id that there can be: servers before 6.2 know no range that leaves out its start."""
        ms, sequence = i.split('-')
        return f'{ms}-{int(sequence) + 1}'

    def entries(self, stream, after=None):
        """All entries behind that id as (id, {field: bytes})."""
        start = '-' if after is None else self.behind(after)
        while True:
            part = self('XRANGE', stream, start, '+', 'COUNT', 5000)
            for i, fields in part:
                yield i.decode(), dict(zip((k.decode() for k in fields[::2]), fields[1::2]))
            if len(part) < 5000:
                return
            start = self.behind(part[-1][0].decode())


def from_redis(url, stream, after=None, sink='redis', password=None):
    """A stream keeps the order of the log as a whole, so no entry has a key."""
    with Redis(url, password) as redis:
        for at, f in redis.entries(stream, after):
            yield {'sink': sink, 'place': stream, 'at': at, 'source': f.get('source', b'').decode('utf-8', 'replace'),
                   'id': f['id'].decode('utf-8', 'replace') if 'id' in f else None, 'key': None,
                   'log': f.get('logid', b'').decode(), 'lsn': int(f.get('lsn', 0)), 'sha256': sha256(f.get('body', b'')),
                   **({'replay': f['replay'].decode()} if 'replay' in f else {})}


def from_dead(admin, sink, name=None, token=None):
    """The letters of a sink, by the admin listener. Their bytes are not in the list, so they are not compared."""
    after = 0
    while after is not None:
        request = urllib.request.Request(f'{admin.rstrip("/")}/v1/dead/{sink}?after={after}&limit=1000',
                                         headers={'Authorization': f'Bearer {token}'} if token else {})
        with urllib.request.urlopen(request, timeout=60) as r:
            page = json.load(r)
        for d in page['letters']:
            yield {'sink': name or sink, 'place': 'dead letters', 'at': str(d['lsn']), 'source': d['source'], 'id': d['id'],
                   'key': None, 'log': None, 'lsn': int(d['lsn']), 'sha256': None, 'dead': True}
        after = page.get('next')
