"""Dashboard, alert rules and runbook: what they name exists on a running bridge, a real Prometheus takes them, each rule fires and does not."""
import http.client
import json
import os
import re
import shutil
import subprocess
import urllib.parse

from certs import Authority
from client import KEY, post, signed
from servers import HOOKLINE, ROOT, Hookline, Process, Redis, Skip, Tap, free_port, stop_all, until

WHERE = os.path.join(ROOT, 'deploy/observability')
OF_PROMETHEUS = {'job', 'instance'}  # labels that the scrape adds


def read(path):
    with open(os.path.join(ROOT, path)) as f:
        return f.read()


def need(tool):
    if not shutil.which(tool):
        raise Skip(f'{tool} is not there: apt-get install prometheus')
    return tool


def promtool(*args, text=None, cwd=WHERE, good=True):
    p = subprocess.run([need('promtool'), *args], cwd=cwd, input=text and text.encode(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    assert (p.returncode == 0) == good, p.stdout.decode()
    return p.stdout.decode()


def alerts():
    """{name: (expression, annotations as text)}"""
    found = re.findall(r'- alert: (\w+)\n +expr: (?:>-\n)?((?:.*\n)+?) +(?:for: .*\n +)?labels: .*\n +annotations:\n((?: {10}.*\n)+)',
                       read('deploy/observability/alerts.yaml'))
    assert len(found) == read('deploy/observability/alerts.yaml').count('- alert: ')
    return {name: (' '.join(expr.split()), text) for name, expr, text in found}


def dashboard():
    return json.loads(read('deploy/observability/dashboard.json'))


def panels():
    return [p for p in dashboard()['panels'] if p['type'] != 'row']


def filled(expr):
    """What Grafana makes of an expression while all is chosen."""
    return re.sub(r'\$(instance|source|sink)\b', '.*', expr).replace('$__rate_interval', '1m')


def expressions():
    """[(where, expression)] of rules and panels"""
    return [(name, expr) for name, (expr, _) in alerts().items()] + \
        [(p['title'], filled(t['expr'])) for p in panels() for t in p['targets']]


class Everything:
    """A bridge that shows all its metrics: TLS, keys, a shared index, a sink that works and one whose server is full."""

    def __init__(self):
        self.redis, self.full, self.n = Redis().start(), Redis('--maxmemory', '1').start(), 0
        self.bridge = Hookline()
        ca = Authority(self.bridge.dir)
        cert, key = ca.issue('server')
        made = self.bridge.dir + '/made'
        subprocess.run([HOOKLINE, 'providers', 'keygen', 'gemini-dynamic', made], check=True, stdout=subprocess.DEVNULL)
        with open(self.bridge.config) as f:
            text = f.read()
        with open(self.bridge.config, 'w') as f:
            f.write(text.replace(f'listen: 127.0.0.1:{self.bridge.port}', f"""listen:
  - 127.0.0.1:{self.bridge.port}
  - {{ address: "127.0.0.1:{free_port()}", tls: {{ cert: "{cert}", key: "{key}" }} }}""").replace('\nsources:', f"""
sources:
  dynamic: {{ provider: gemini-dynamic, audience: me, path: "/hooks/x/{{token}}", path_token: {"t" * 32}, jwks: {{ file: "{made}/jwks.json" }} }}""")
                    + f"""dedup: {{ redis: "unix:{self.redis.socket}" }}
sinks:
  works: {{ redis: {{ url: "unix:{self.redis.socket}", stream: s }} }}
  full: {{ redis: {{ url: "unix:{self.full.socket}", stream: s }} }}
""")
        self.bridge.start()

    def send(self):
        """One that is taken, its repeat, one that is refused."""
        self.n += 1
        for key, ident, status in ((KEY, self.n, 200), (KEY, self.n, 200), (b'other', -self.n, 401)):
            got = post(self.bridge.port, signed(f'm{ident}', b'{"type":"batch.succeeded","data":{"id":"j"}}', key=key))[0]
            assert got == status, (got, status)

    def metrics(self):
        """{name: labels}, the parts of histograms included"""
        out = {'up': set()}
        for line in self.bridge.get('/metrics')[1].decode().split('\n'):
            if m := re.match(r'(\w+)(?:\{(.*)\})? ', line):
                out.setdefault(m.group(1), set()).update(re.findall(r'(\w+)="', m.group(2) or ''))
        return out

    def clean(self):
        stop_all(self.bridge, self.redis, self.full)


def names():
    """every metric and label that a rule, a panel or a variable names is one of the bridge's"""
    e = Everything()
    try:
        e.send()
        until('retries are counted', lambda: 'hookline_sink_retries_total' in e.metrics())
        has = e.metrics()
    finally:
        e.clean()
    every = expressions() + [('variable', v['definition'].replace('label_values(', '').replace(', ', '{', 1).replace(')', '=""}'))
                             for v in dashboard()['templating']['list'] if v['type'] == 'query']
    for where, expr in every:
        plain = re.sub(r'"[^"]*"', '""', expr)
        mentioned = re.findall(r'\b((?:hookline|process)_\w+|up)\b(?:\{([^}]*)\})?', plain)
        assert mentioned, (where, expr)
        for name, matchers in mentioned:
            assert name in has, (where, name)
            strange = set(re.findall(r'(\w+)[=!]', matchers)) - has[name] - OF_PROMETHEUS
            assert not strange, (where, name, strange)
        known = set.union(*(has[name] for name, _ in mentioned)) | OF_PROMETHEUS
        grouped = set(re.findall(r'\w+', ','.join(re.findall(r'\b(?:by|on|without|ignoring) \(([^)]*)\)', plain))))
        shown = set(re.findall(r'\$labels\.(\w+)', alerts()[where][1])) if where in alerts() else set()
        assert grouped | shown <= known, (where, (grouped | shown) - known)
    legends = {l for p in panels() for t in p['targets'] for l in re.findall(r'\{\{(\w+)\}\}', t['legendFormat'])}
    assert legends <= set.union(*has.values()) | OF_PROMETHEUS, legends


def rules():
    """promtool takes the rules; each fires where it must and not where it must not; a rule that is wrong would be found"""
    need('promtool')
    promtool('check', 'rules', 'alerts.yaml')
    tests = read('deploy/observability/alerts_test.yaml')
    for name in alerts():
        assert re.search(rf'labels: .{{1,3}}alertname="{name}"', tests), f'no test of {name} fires'
    promtool('test', 'rules', 'alerts_test.yaml')
    folder = os.path.join(os.environ.get('TMPDIR', '/tmp'), f'hookline-rules-{os.getpid()}')
    os.mkdir(folder)
    try:
        for bad, good in (('== 1\n', '== 2\n'), ('for: 30m', 'for: 1m')):  # never fires; fires too early
            with open(folder + '/alerts.yaml', 'w') as f:
                f.write(read('deploy/observability/alerts.yaml').replace(bad, good))
            shutil.copy(WHERE + '/alerts_test.yaml', folder)
            promtool('test', 'rules', 'alerts_test.yaml', cwd=folder, good=False)
    finally:
        shutil.rmtree(folder)


def runbook():
    """each rule leads to a section of the runbook with all its parts; each section belongs to a rule; its links and commands exist"""
    page = read('docs/runbook.md')
    sections = dict(re.findall(r'^## (\w+)\n(.*?)(?=^## |\Z)', page, re.M | re.S))
    assert list(sections) and set(sections) == set(alerts()), set(sections) ^ set(alerts())
    for name, (_, annotations) in alerts().items():
        assert f'runbook_url: docs/runbook.md#{name.lower()}\n' in annotations, name
        assert all(f'{key}: "' in annotations for key in ('summary', 'description')), name
        assert all(f'**{part}.** ' in sections[name] for part in ('Means', 'Look at', 'Do')), name
    for path, anchor in re.findall(r'\]\(([^)#]*)#?([^)]*)\)', page):
        target = os.path.normpath(os.path.join('docs', path)) if path else 'docs/runbook.md'
        heads = [re.sub(r'[^\w -]', '', h).lower().replace(' ', '-') for h in re.findall(r'^#+ (.*)', read(target), re.M)]
        assert not anchor or anchor in heads, (target, anchor)
    commands = subprocess.run([HOOKLINE, 'completion', 'bash'], stdout=subprocess.PIPE, check=True).stdout.decode()
    known = {name: words.split() for name, words in re.findall(r"^    (\w+)\) known='(.*?)'", commands, re.M)}
    for line in re.findall(r'^hookline (.*)', page, re.M):
        name, *words = line.split()
        assert name in known, line
        offered = [w.rstrip('=') for w in known[name]]
        assert all(w in offered for w in words if w.startswith('-')), line
        assert name not in ('log', 'dead') or words[0] in offered, line
    h = Hookline().start()
    try:
        for path in re.findall(r'^curl -s \'?http://127.0.0.1:9180(/[^\s\']*)', page, re.M):
            assert h.get(path)[0] == 200, path
    finally:
        h.clean()


def lint():
    """the dashboard: ids and places are its own, each panel has title, unit, description and the chosen data source; expressions parse"""
    d = dashboard()
    variables = {v['name']: v for v in d['templating']['list']}
    assert variables['datasource']['type'] == 'datasource' and set(variables) == {'datasource', 'instance', 'source', 'sink'}
    ids = [p['id'] for p in d['panels']]
    cells = [(x, y) for p in d['panels'] for x in range(p['gridPos']['x'], p['gridPos']['x'] + p['gridPos']['w'])
             for y in range(p['gridPos']['y'], p['gridPos']['y'] + p['gridPos']['h'])]
    assert len(set(ids)) == len(ids) and len(set(cells)) == len(cells) and max(x for x, _ in cells) < 24
    titles = [p['title'] for p in d['panels']]
    assert len(set(titles)) == len(titles) and all(titles)
    chosen = {'type': 'prometheus', 'uid': '${datasource}'}
    for p in panels():
        assert p['description'].endswith('.') and p['fieldConfig']['defaults']['unit'], p['title']
        assert p['datasource'] == chosen and p['targets'] and all(t['datasource'] == chosen for t in p['targets']), p['title']
        assert all(t['legendFormat'] for t in p['targets']), p['title']
        assert len({t['refId'] for t in p['targets']}) == len(p['targets']), p['title']
        for t in p['targets']:
            assert set(re.findall(r'\$(\w+)', t['expr'])) <= {*variables, '__rate_interval'}, t['expr']
    recorded = [{'record': f'panel:{n}', 'expr': expr} for n, (_, expr) in enumerate(expressions())]
    check = os.path.join(os.environ.get('TMPDIR', '/tmp'), f'hookline-panels-{os.getpid()}.json')
    try:
        with open(check, 'w') as f:  # JSON is YAML
            json.dump({'groups': [{'name': 'panels', 'rules': recorded}]}, f)
        promtool('check', 'rules', check)
    finally:
        os.unlink(check)


class Prometheus(Process):
    def start(self, target):
        self.port = free_port()
        with open(self.dir + '/p.yml', 'w') as f:
            f.write(f"""global: {{ scrape_interval: 1s, evaluation_interval: 1s }}
rule_files: [{WHERE}/alerts.yaml]
scrape_configs: [{{ job_name: hookline, static_configs: [{{ targets: ["127.0.0.1:{target}"] }}] }}]
""")
        self.spawn([need('prometheus'), f'--config.file={self.dir}/p.yml', f'--storage.tsdb.path={self.dir}/data',
                    f'--web.listen-address=127.0.0.1:{self.port}'], 'log')
        until('prometheus', lambda: self.api('/-/ready', raw=True))
        return self

    def api(self, path, raw=False):
        c = http.client.HTTPConnection('127.0.0.1', self.port, timeout=30)
        try:
            c.request('GET', path)
            r = c.getresponse()
            body = r.read()
            return r.status == 200 if raw else json.loads(body)
        finally:
            c.close()

    def values(self, expr):
        answer = self.api('/api/v1/query?query=' + urllib.parse.quote(expr))
        assert answer['status'] == 'success', (expr, answer)
        return [s['value'][1] for s in answer['data']['result'] if s['value'][1] != 'NaN']


def scraped():
    """a real Prometheus that scrapes the bridge: every panel shows something, every rule is evaluated, that of a bridge that is gone fires"""
    need('prometheus')
    e, p = None, Prometheus()
    try:
        e = Everything()
        e.send()
        p.start(e.bridge.admin)
        empty = {(panel['title'], t['expr']) for panel in panels() for t in panel['targets']}

        def all_show():
            e.send()
            for one in sorted(empty):
                if p.values(filled(one[1])):
                    empty.discard(one)
            return not empty
        try:
            until('all panels', all_show)
        except TimeoutError:
            raise AssertionError(f'nothing shown by {sorted(empty)}') from None

        def evaluated():
            found = [r for g in p.api('/api/v1/rules')['data']['groups'] for r in g['rules']]
            return len(found) == len(alerts()) and all(r['health'] == 'ok' for r in found)
        until('all rules', evaluated)
        e.bridge.kill()
        until('HooklineDown is pending', lambda: p.values('ALERTS{alertname="HooklineDown"}'))
    finally:
        stop_all(p, e)


if __name__ == '__main__':
    Tap().run(names, rules, runbook, lint, scraped)
