"""The manifests and the chart on a real API server, with its controllers and scheduler, and pods that really run: rolled out,
updated from the release before and back under load, drained, scaled down, with TLS. The load goes to the pods that are ready, as a
Service would send it."""
import json
import os
import random
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
import time

from container import CACHE, HERE, ROOT, Skip, Tap, call, enter, events, post, run, until
from certs import Authority

BIN, CRDS, PREVIOUS = (os.path.join(CACHE, p) for p in ('deploy/kube-1.37.2', 'deploy/crds', 'previous'))
EXTENDED = ('monitoring.coreos.com', 'gateway.networking.k8s.io')
folder = tempfile.mkdtemp(prefix='hookline-kube-')
KUBECONFIG, API, TOKEN, GATE = folder + '/kubeconfig', 'https://127.0.0.1:36443', 'admin-token', '10.99.0.1'
children, acknowledged = [], []
SINK = f'sinks: {{ stream: {{ redis: {{ url: "redis://{GATE}:6379/0", stream: all }} }} }}\n'
SOURCE = '  open: { provider: none }\n'


def child(name, *argv, env=None):
    with open(f'{folder}/{name}.log', 'ab') as out:
        p = subprocess.Popen(argv, stdout=out, stderr=out, cwd=folder, env={**os.environ, **(env or {})})
    children.append(p)
    return p


def kubectl(*argv, check=True, text=None, ns='hookline'):
    p = subprocess.run([BIN + '/kubectl', '--kubeconfig', KUBECONFIG, '-n', ns, *argv], input=text and text.encode(), stdout=subprocess.PIPE,
                       stderr=subprocess.STDOUT, timeout=300)
    out = p.stdout.decode(errors='replace')
    assert p.returncode == 0 or not check, (argv, out)
    return out.strip() if check else (p.returncode, out)


def helm(*argv, check=True):
    p = subprocess.run([BIN + '/helm', '--kubeconfig', KUBECONFIG, '-n', 'chart', *argv], stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                       timeout=300)
    assert p.returncode == 0 or not check, (argv, p.stdout.decode())
    return p.stdout.decode()


def control_plane():
    etcd = 'http://127.0.0.1:32379'
    child('etcd', BIN + '/etcd', '--data-dir', folder + '/etcd', '--listen-client-urls', etcd, '--advertise-client-urls', etcd,
          '--listen-peer-urls', 'http://127.0.0.1:32380', '--initial-advertise-peer-urls', 'http://127.0.0.1:32380',
          '--initial-cluster', 'default=http://127.0.0.1:32380', '--unsafe-no-fsync')
    run('openssl', 'genrsa', '-out', folder + '/sa.key', '2048')
    with open(folder + '/tokens.csv', 'w') as f:
        f.write(f'{TOKEN},admin,admin,"system:masters"\n')
    with open(KUBECONFIG, 'w') as f:
        json.dump({'apiVersion': 'v1', 'kind': 'Config', 'current-context': 'x', 'contexts': [{'name': 'x', 'context': {'cluster': 'c', 'user': 'u'}}],
                   'clusters': [{'name': 'c', 'cluster': {'server': API, 'insecure-skip-tls-verify': True}}],
                   'users': [{'name': 'u', 'user': {'token': TOKEN}}]}, f)
    child('apiserver', BIN + '/kube-apiserver', '--etcd-servers=' + etcd, '--bind-address=127.0.0.1', '--advertise-address=127.0.0.1',
          '--secure-port=36443', f'--cert-dir={folder}/certs', '--service-cluster-ip-range=10.96.0.0/16', '--endpoint-reconciler-type=none',
          '--service-account-issuer=https://kubernetes.default.svc', f'--service-account-key-file={folder}/sa.key',
          f'--service-account-signing-key-file={folder}/sa.key', f'--token-auth-file={folder}/tokens.csv', '--authorization-mode=RBAC')
    until('the API server', lambda: kubectl('get', '--raw', '/readyz', check=False)[0] == 0, 120)
    common = [f'--{k}={KUBECONFIG}' for k in ('kubeconfig', 'authentication-kubeconfig', 'authorization-kubeconfig')] + [
        '--authentication-skip-lookup=true', '--bind-address=127.0.0.1', '--leader-elect=false']
    child('manager', BIN + '/kube-controller-manager', *common, f'--service-account-private-key-file={folder}/sa.key', f'--cert-dir={folder}/manager',
          '--controllers=' + ','.join(f'{c}-controller' for c in (
              'statefulset', 'job', 'disruption', 'endpointslice', 'serviceaccount', 'namespace', 'persistentvolume-binder',
              'persistentvolumeclaim-protection')) + ',garbage-collector-controller')
    child('scheduler', BIN + '/kube-scheduler', *common, f'--cert-dir={folder}/scheduler')
    kubectl('apply', '-f', '-', text=json.dumps({'apiVersion': 'v1', 'kind': 'List', 'items': [
        {'apiVersion': 'storage.k8s.io/v1', 'kind': 'StorageClass', 'metadata': {'name': 'local', 'annotations': {
            'storageclass.kubernetes.io/is-default-class': 'true'}}, 'provisioner': 'kubernetes.io/no-provisioner',
         'volumeBindingMode': 'WaitForFirstConsumer'}]
        + [{'apiVersion': 'v1', 'kind': 'Namespace', 'metadata': {'name': n, 'labels': {
            'pod-security.kubernetes.io/enforce': 'restricted', 'pod-security.kubernetes.io/warn': 'restricted'}}} for n in ('hookline', 'chart')]
        + [{'apiVersion': 'v1', 'kind': 'Node', 'metadata': {'name': f'node-{n}', 'labels': {
            'kubernetes.io/hostname': f'node-{n}', 'kubernetes.io/os': 'linux', 'topology.kubernetes.io/zone': f'z{n}'}},
            'status': {k: {'cpu': '4', 'memory': '8Gi', 'pods': '110'} for k in ('capacity', 'allocatable')}} for n in range(3)]
        + [{'apiVersion': 'v1', 'kind': 'PersistentVolume', 'metadata': {'name': f'volume-{n}'}, 'spec': {
            'capacity': {'storage': '10Gi'}, 'accessModes': ['ReadWriteOncePod'], 'persistentVolumeReclaimPolicy': 'Retain',
            'storageClassName': 'local', 'local': {'path': '/data'}, 'nodeAffinity': {'required': {'nodeSelectorTerms': [{
                'matchExpressions': [{'key': 'kubernetes.io/hostname', 'operator': 'In', 'values': [f'node-{n % 3}']}]}]}}}} for n in range(6)]}))
    kubectl('taint', 'nodes', '--all', 'node.kubernetes.io/not-ready-', check=False)
    for argv in (['link', 'add', 'pods', 'type', 'bridge'], ['addr', 'add', GATE + '/16', 'dev', 'pods'], ['link', 'set', 'pods', 'up']):
        run('ip', *argv)
    child('podlet', sys.executable, HERE + '/podlet.py', env={'API': API, 'TOKEN': TOKEN, 'PODLET_DIR': folder + '/pods'})


def pods(ns='hookline', ready=True):
    items = json.loads(kubectl('get', 'pods', '-o', 'json', ns=ns))['items']
    return {p['metadata']['name']: p for p in items if not ready or (
        'deletionTimestamp' not in p['metadata'] and any(
            c['type'] == 'Ready' and c['status'] == 'True' for c in p['status'].get('conditions', [])))}


class Load:
    """Sends to the pods that are ready, each request over a connection of its own. What failed is remembered too."""

    def __init__(self):
        self.on, self.failed, self.sent, self.targets, self.n = True, [], [], {}, len(acknowledged) + 1000000 * random.randrange(1, 1000)
        self.look()
        self.threads = [threading.Thread(target=t) for t in (self.watch, self.send, self.send)]
        for t in self.threads:
            t.start()

    def look(self):
        self.targets = [p['status']['podIP'] for p in pods().values()]

    def watch(self):
        while self.on:
            self.look()
            time.sleep(0.2)

    def send(self):
        while self.on:
            self.n += 1
            n = self.n * 2 + (threading.current_thread() is self.threads[1])
            where = random.choice(self.targets)
            try:
                code, text = post(n, where + ':8080/hooks/open')
            except Exception as e:
                code, text = 0, repr(e)
            (self.sent if code == 200 else self.failed).append(n if code == 200 else (where, code, text))
            time.sleep(0.01)

    def stop(self):
        self.on = False
        for t in self.threads:
            t.join()
        acknowledged.extend(self.sent)
        return len(self.sent), self.failed


def tree(tag):
    """The base as an operator would adapt it: another image, a source, a sink that nobody answers yet."""
    where = folder + '/base'
    shutil.rmtree(where, ignore_errors=True)
    shutil.copytree(ROOT + '/deploy/kubernetes/base', where, dirs_exist_ok=True)
    with open(where + '/hookline.yaml', 'a') as f:
        f.write(SOURCE + SINK)
    with open(where + '/kustomization.yaml', 'a') as f:
        f.write(f'images: [ {{ name: hookline, newName: localhost/hookline, newTag: {tag} }} ]\n')
    return where


APPLY = ('apply', '--dry-run=server', '--validate=strict', '--warnings-as-errors', '-f', '-')


def refuses(text, *faults):
    for right, wrong in faults:
        assert right in text and kubectl(*APPLY, text=text.replace(right, wrong, 1), check=False)[0], wrong


def accepted():
    """the API server takes base, overlays and Job, strictly, without a warning; planted faults it does not take"""
    for where in ('base', *(f'overlays/{n}' for n in ('single', 'production', 'gateway', 'tls'))):
        text = kubectl('kustomize', ROOT + '/deploy/kubernetes/' + where)
        kubectl(*APPLY, text='\n---\n'.join(d for d in text.split('\n---\n') if not any(e in d for e in EXTENDED)))
    with open(ROOT + '/deploy/kubernetes/drain/job.yaml') as f:
        kubectl(*APPLY, text=f.read())
    refuses(kubectl('kustomize', ROOT + '/deploy/kubernetes/base'), ('allowPrivilegeEscalation: false', 'allowPrivilegeEscalation: true'),
            ('replicas: 3', 'replicas: three'), ('serviceName:', 'serviceNane:'), ('maxUnavailable: 1', 'maxUnavailable: 1\n  minAvailable: 1'))


def extended():
    """with their makers' definitions: ServiceMonitor, PrometheusRule and HTTPRoute of overlays and chart are taken, faults in them are not"""
    if len(os.listdir(CRDS)) < 3:
        raise Skip('the definitions of ServiceMonitor, PrometheusRule and HTTPRoute could not be fetched')
    for n in sorted(os.listdir(CRDS)):
        kubectl('apply', '--server-side', '-f', f'{CRDS}/{n}')
    kubectl('wait', '--for=condition=Established', 'crd', '--all', '--timeout=60s')
    for where in ('production', 'gateway'):
        kubectl(*APPLY, text=kubectl('kustomize', f'{ROOT}/deploy/kubernetes/overlays/{where}'))
    more = ('serviceMonitor.enabled=true', 'prometheusRule.enabled=true', 'gateway.enabled=true', 'gateway.parent=p', 'gateway.host=h.example.com',
            'serviceMonitor.labels.release=p')
    text = helm('template', 'r', CHART, *[x for m in more for x in ('--set', m)])
    text = text[text.index('---'):]  # before it helm tells that it follows a link
    kubectl(*APPLY, text=text)
    assert text.count('alert: Hookline') > 10
    refuses(text, ('interval: 15s', 'interval: often'), ('path: /metrics', 'pad: /metrics'), ('expr: up', 'exp: up'), ('for: 2m', 'for: long'),
            ('type: PathPrefix', 'type: Prefix'))


def rolled_out():
    """without its Secret the pods wait; with it three replicas become ready, each on a node and a claim of its own"""
    kubectl('apply', '-k', tree('previous' if old_is_there() else 'test'))
    until('pods that are placed', lambda: len([p for p in pods(ready=False).values() if p['spec'].get('nodeName')]) == 3, 120)
    assert not pods()
    kubectl('create', 'secret', 'generic', 'hookline', '--from-literal=HOOKLINE_ADMIN_TOKEN=t', '--from-literal=GEMINI_SECRET=whsec_dGVzdA==')
    began = time.monotonic()
    kubectl('rollout', 'status', 'statefulset/hookline', '--timeout=120s')
    print(f'# three replicas ready in {time.monotonic() - began:.1f} s')
    assert len({p['spec']['nodeName'] for p in pods().values()}) == 3


def old_is_there():
    return os.path.exists(PREVIOUS + '/revision')


def roll(what, *argv):
    """Another pod in each place, one after the other, under load; every request is acknowledged and none is lost."""
    before = {p['metadata']['uid'] for p in pods().values()}
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 100)
    began = time.monotonic()
    try:
        kubectl(*argv)
        kubectl('rollout', 'status', 'statefulset/hookline', '--timeout=280s')
    finally:
        sent, failed = load.stop()
    assert not failed, failed[:5]
    now = pods()
    assert len(now) == 3 and not before & {p['metadata']['uid'] for p in now.values()}
    assert not lost()
    with open(folder + '/podlet.log') as f:
        stops = [line.split()[-1] for line in f if ' stopped with ' in line]
    assert stops[-3:] == ['0', '0', '0'], stops
    print(f'# {what} in {time.monotonic() - began:.0f} s: {sent} requests acknowledged, 0 failed, 0 lost')


def image():
    return {p['spec']['containers'][0]['image'].split(':')[1] for p in pods().values()}


def updated():
    """a rolling update under load, from the release before: no request fails, and what was acknowledged is in the logs"""
    if not old_is_there():
        roll('rolling update', 'set', 'env', 'statefulset/hookline', 'ROLL=1')
        raise Skip('the release before is not in this clone; this one was rolled instead')
    assert image() == {'previous'}
    roll('rolling update from the release before', 'set', 'image', 'statefulset/hookline', 'hookline=localhost/hookline:test')
    assert image() == {'test'}


def rolled_back():
    """back to the release before and forth again, under load: no request fails, nothing that any of them acknowledged is lost"""
    if not old_is_there():
        raise Skip('the release before is not in this clone')
    roll('rollback', 'rollout', 'undo', 'statefulset/hookline')
    assert image() == {'previous'}
    roll('update', 'rollout', 'undo', 'statefulset/hookline')
    assert image() == {'test'}


def lost():
    got = set()
    for p in pods().values():
        got |= set(events(p['status']['podIP'] + ':9180', {'authorization': 'Bearer t'}))
    return set(acknowledged) - got


def killed():
    """a container that is killed comes back on its own log"""
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 100)
    name = 'hookline-1-' + pods()['hookline-1']['metadata']['uid'][:8]
    run('podman', 'kill', '-s', 'KILL', name)
    until('it is restarted', lambda: json.loads(kubectl('get', 'pod', 'hookline-1', '-o', 'json'))['status']['containerStatuses'][0]['restartCount'] == 1)
    until('three are ready', lambda: len(pods()) == 3)
    load.stop()  # here requests may fail: nobody was told
    assert not lost()


def drained():
    """one node is drained; the second drain is held back by the budget until the first node is back"""
    where = {p['spec']['nodeName']: n for n, p in pods().items()}
    one, two = sorted(where)[:2]
    kubectl('drain', one, '--timeout=120s', '--delete-emptydir-data')
    code, text = kubectl('drain', two, '--timeout=8s', '--delete-emptydir-data', check=False)
    assert code and 'disruption budget' in text, text
    assert where[two] in pods()
    kubectl('uncordon', one)
    kubectl('uncordon', two)
    until('three are ready', lambda: len(pods()) == 3)
    assert not lost()


def scaled_down():
    """to one replica, with a backlog in all three: the Jobs deliver what the two volumes left behind still hold; nothing is lost"""
    load = Load()
    until('some are acknowledged', lambda: len(load.sent) > 300)
    load.stop()
    kubectl('scale', 'statefulset/hookline', '--replicas=1')
    until('one is left', lambda: len(pods(ready=False)) == 1, 120)
    claims = kubectl('get', 'pvc', '-o', 'name').split()
    assert len(claims) == 3, claims
    child('redis', 'redis-server', '--bind', GATE, '--port', '6379', '--protected-mode', 'no', '--save', '', '--dir', folder)
    config = kubectl('get', 'statefulset', 'hookline', '-o', 'jsonpath={.spec.template.spec.volumes[0].configMap.name}')
    with open(ROOT + '/deploy/kubernetes/drain/job.yaml') as f:
        job = f.read().replace('configMap: { name: hookline }', f'configMap: {{ name: {config} }}').replace('image: hookline:', 'image: localhost/hookline:')
    job = job.replace('localhost/hookline:' + open(ROOT + '/VERSION').read().strip(), 'localhost/hookline:test')
    for n in ('1', '2'):
        kubectl('apply', '-f', '-', text=job.replace('hookline-drain-2', 'hookline-drain-' + n).replace('log-hookline-2', 'log-hookline-' + n))
    for n in ('1', '2'):
        kubectl('wait', '--for=condition=complete', f'job/hookline-drain-{n}', '--timeout=200s')

    def delivered():
        text = run('redis-cli', '-h', GATE, '--json', 'xrange', 'all', '-', '+').stdout
        fields = [dict(zip(e[1][::2], e[1][1::2])) for e in json.loads(text)]
        return {json.loads(f['body'])['n'] for f in fields}
    until('everything is in Redis', lambda: set(acknowledged) <= delivered(), 120)
    print(f'# {len(acknowledged)} acknowledged through update, kill, drain and scaling down; all of them in Redis')
    kubectl('delete', 'statefulset', 'hookline')


def certificate(ns, names):
    """A new certificate for those names, in the Secret `hookline-tls`; what a client needs to believe it."""
    os.makedirs(folder + '/certs-of-tests', exist_ok=True)
    authority = Authority(folder + '/certs-of-tests')
    crt, key = authority.issue('tls', names)
    text = kubectl('create', 'secret', 'generic', 'hookline-tls', f'--from-file=tls.crt={crt}', f'--from-file=tls.key={key}',
                   f'--from-file=ca.crt={authority.ca}', '--dry-run=client', '-o', 'json', ns=ns)
    kubectl('apply', '-f', '-', text=text, ns=ns)
    return authority


def shown(ip):
    return ssl.get_server_certificate((ip, 8080))


def post_tls(ip, authority, name):
    c = ssl.create_default_context(cafile=authority.ca)
    c.verify_flags &= ~getattr(ssl, 'VERIFY_X509_STRICT', 0)
    with c.wrap_socket(socket.create_connection((ip, 8080), 30), server_hostname=name) as s:
        s.sendall(b'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 7\r\nConnection: close\r\n\r\n{"n":1}')
        return s.makefile('rb').read()


def serves_tls(ns, name):
    """Webhooks over TLS, probes without; a renewed certificate is taken by the same process."""
    authority = certificate(ns, 'DNS:' + name)
    found = pods(ns)
    uids = {p['metadata']['uid'] for p in found.values()}
    ips = [p['status']['podIP'] for p in found.values()]
    with open(authority.path('tls.crt')) as f:
        want = f.read().strip()
    until('the new certificate is shown', lambda: all(shown(ip).strip() == want for ip in ips), 120)
    for ip in ips:
        assert b' 200 ' in post_tls(ip, authority, name)[:20]
        assert call('GET', ip + ':9181/readyz')[0] == 200
    now = pods(ns)
    assert {p['metadata']['uid'] for p in now.values()} == uids
    assert all(c['restartCount'] == 0 for p in now.values() for c in p['status']['containerStatuses'])


def overlay_tls():
    """the overlay for TLS in the pod: webhooks come encrypted, probes do not; a renewed certificate is shown without a restart"""
    where = folder + '/overlays/tls'
    tree('test')
    shutil.copytree(ROOT + '/deploy/kubernetes/overlays/tls', where, dirs_exist_ok=True)
    with open(where + '/hookline.yaml', 'a') as f:
        f.write(SOURCE + SINK)
    certificate('hookline', 'DNS:old.example.com')
    kubectl('apply', '-k', where)
    kubectl('rollout', 'status', 'statefulset/hookline', '--timeout=120s')
    serves_tls('hookline', 'hooks.example.com')
    kubectl('delete', 'statefulset', 'hookline')


CHART = ROOT + '/deploy/helm/hookline'
VALUES = [x for v in ('image.repository=localhost/hookline', 'image.tag=test', 'config.sources.open.provider=none', 'test.source=gemini',
                      'config.sources.gemini.provider=gemini', 'config.sources.gemini.secrets[0].env=GEMINI_SECRET') for x in ('--set', v)]


def upgrade(*values, check=True):
    return helm('upgrade', 'r', CHART, *VALUES, *[x for v in values for x in ('--set', v)], '--wait', '--timeout', '200s', check=check)


def webhooks_of_tests():
    """How many of source gemini the replicas' logs have: only `helm test` sends such."""
    return sum(call('GET', p['status']['podIP'] + ':9180/v1/events?source=gemini', headers={'authorization': 'Bearer t'})[1].count(b'"specversion"')
               for p in pods('chart').values())


def chart():
    """helm installs, upgrades and tests: the Service leads to ready pods, and a signed webhook to a log"""
    kubectl('create', 'secret', 'generic', 'hookline', '--from-literal=HOOKLINE_ADMIN_TOKEN=t',
            '--from-literal=GEMINI_SECRET=whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw', ns='chart')
    until('the old pods are gone', lambda: not {'hookline-0', 'hookline-1', 'hookline-2'} & set(pods(ready=False)), 120)
    helm('install', 'r', CHART, *VALUES, '--wait', '--timeout', '120s')
    assert len(pods('chart')) == 3
    ip = next(iter(pods('chart').values()))['status']['podIP']
    assert post(1, ip + ':8080/hooks/open')[0] == 200
    out = helm('test', 'r', '--timeout', '60s')
    assert out.count('Succeeded') == 2, out
    assert webhooks_of_tests() == 1
    upgrade('config.log.retain=24h')
    assert 'retain: 24h' in kubectl('get', 'configmap', 'r-hookline', '-o', 'yaml', ns='chart')
    assert len(pods('chart')) == 3


def chart_tls():
    """tls.secret: the same with TLS in the pods, `helm test` included; a renewed certificate is shown without a restart"""
    certificate('chart', 'DNS:old.example.com')
    upgrade('tls.secret=hookline-tls')
    assert 'appProtocol: https' in kubectl('get', 'service', 'r-hookline', '-o', 'yaml', ns='chart')
    serves_tls('chart', 'r-hookline')
    sent = webhooks_of_tests()
    out = helm('test', 'r', '--timeout', '60s')
    assert out.count('Succeeded') == 2 and webhooks_of_tests() == sent + 1, out
    certificate('chart', 'DNS:other.example.com')
    until('a certificate for another name', lambda: b'other' in ssl.PEM_cert_to_DER_cert(shown(next(iter(pods('chart').values()))['status']['podIP'])), 120)
    assert 'Failed' in helm('test', 'r', '--timeout', '60s', check=False)


def chart_drained():
    """the chart refuses to drain a replica that runs, drains one that does not, and leaves the claims when it is taken away"""
    assert 'still runs' in upgrade('drain={2}', check=False)
    helm('upgrade', 'r', CHART, *VALUES, '--set', 'replicas=2', '--set', 'drain={2}', '--timeout', '200s')
    kubectl('wait', '--for=condition=complete', 'job/r-hookline-drain-2', '--timeout=200s', ns='chart')
    helm('uninstall', 'r', '--wait', '--timeout', '200s')
    assert len(kubectl('get', 'pvc', '-o', 'name', ns='chart').split()) == 3


if __name__ == '__main__':
    if not os.environ.get('ENGINE_INSIDE'):
        built = shutil.which('go') and subprocess.run([HERE + '/kube-tools', os.path.join(CACHE, 'deploy')]).returncode == 0
        if not built:
            print('1..1\nok 1 - on a real API server # SKIP Kubernetes cannot be built here (no Go, or its modules cannot be had)')
            sys.exit(0)
        subprocess.run([HERE + '/crds', CRDS], stdout=subprocess.DEVNULL)
        subprocess.run([HERE + '/previous', PREVIOUS])
    enter('hookline', *(['previous'] if old_is_there() else []))
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # so that nothing of it is left running
    try:
        control_plane()
        Tap().run(accepted, extended, rolled_out, updated, rolled_back, killed, drained, scaled_down, overlay_tls, chart, chart_tls,
                  chart_drained)
    finally:
        for name in ('podlet', 'manager'):
            with open(f'{folder}/{name}.log', errors='replace') as f:
                print(''.join(f'# {name}: {line}' for line in f.readlines()[-40:] if os.environ.get('VERBOSE')), end='')
        for p in reversed(children):
            p.send_signal(signal.SIGKILL)
            p.wait()
