"""The page of the admin listener, in a real Chromium over a real bridge and a real Redis: what happens is seen, what is
clicked happens, what senders wrote stays text, and the browser has nothing to complain about."""
import base64
import hashlib
import json
import re
import time

from browser import Chromium
from client import post, signed
from servers import HOOKLINE, Hookline, Redis, Tap, stop_all, until

EVIL = '<script>window.pwned = 1</script><img src=x onerror="window.pwned = 2">'
ROWS = 'document.querySelectorAll("#eventrows tr").length'
browser = None


def look(h, token='', **options):
    """The page of that bridge, in the one browser of this test."""
    global browser
    browser = browser or Chromium()
    browser.go('about:blank')
    browser.look(**options)
    browser.complaints.clear()
    browser.go(f'http://127.0.0.1:{h.admin}/')
    browser.until('the page', 'document.readyState === "complete" && !!document.querySelector("#verdict")')
    if token:
        give(token)
    return browser


def give(token):
    browser.until('it asks', 'document.querySelector("#ask").open')
    browser.click('#token')
    browser.type(token)
    browser.key('Enter', 13, '\r')


def send(h, n, kind='video.generated'):
    body = json.dumps({'type': kind, 'data': {'id': f'job-{n}'}})
    r = post(h.port, signed(f'msg-{n}', body.encode()))
    assert r[0] == 200, r
    return json.loads(r[2])['lsn']


def opened(h, body, content_type='text/html'):
    r = post(h.port, f'POST /hooks/open HTTP/1.1\r\nHost: a\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n\r\n'
             .encode() + body)
    assert r[0] == 200, r
    return json.loads(r[2])['lsn']


def row(lsn):
    return f'#eventrows tr[data-key="{lsn}"]'


def policy():
    """the page brings one style and one script, whose hashes alone the policy allows; nothing outside, no frame, no guessing"""
    h = Hookline(extra='').start()
    try:
        status, page, r = h.get('/')
        text = page.decode()
        assert status == 200 and r.headers['Content-Type'] == 'text/html; charset=utf-8'
        csp = r.headers['Content-Security-Policy']
        for tag in ('script', 'style'):
            blocks = re.findall(f'<{tag}>(.*?)</{tag}>', text, re.S)
            digest = base64.b64encode(hashlib.sha256(blocks[0].encode()).digest()).decode()
            assert len(blocks) == 1 and f"{tag}-src 'sha256-{digest}'" in csp, (tag, csp)
        assert 'unsafe' not in csp and "default-src 'none'" in csp and "frame-ancestors 'none'" in csp, csp
        assert r.headers['X-Content-Type-Options'] == 'nosniff' and r.headers['X-Frame-Options'] == 'DENY'
        assert not re.search(r'https?://|\son\w+=|\sstyle=|innerHTML|eval\(', text.split('<script>')[0]), 'the markup'
        assert not re.search(r'innerHTML|outerHTML|insertAdjacent|document\.write|localStorage|sessionStorage|cookie', text)
    finally:
        stop_all(h)


def flow_and_steering():
    """what arrives is seen at once; a sink is paused and resumed; letters are redriven; what was refused is named"""
    redis = Redis('--proto-max-bulk-len', str(1 << 20)).start()
    h = Hookline(f'  events: {{ redis: {{ url: "unix:{redis.socket}", stream: events }} }}',
                 extra='limits: { body_bytes: 4MiB }').start()
    try:
        b = look(h)
        b.until('it is told so', 'document.querySelector("#headline").textContent === "All is well"')
        for n in range(5):
            send(h, n)
        b.until('they are seen', f'{ROWS} === 5')
        assert 'job-4' in b.text('#eventrows tr:first-child'), b.text('#eventrows')
        b.until('the figures follow', 'document.querySelector("#sourcerows").innerText.includes("5")')

        b.click('#sinkrows .btn')
        b.click('#sinkrows .btn')
        until('it is paused', lambda: h.status()['sinks']['events']['state'] == 'paused')
        b.until('it says so', 'document.querySelector("#headline").textContent === "events is paused"')
        send(h, 5)
        b.until('what waits is shown', 'document.querySelector("#problems").innerText.includes("1 event waits")')
        b.click('#sinkrows .btn')
        b.until('and gone', 'document.querySelector("#headline").textContent === "All is well"')
        until('all has come', lambda: len(redis.entries('events')) == 6)

        body = json.dumps({'type': 'too.large', 'pad': 'x' * 1_200_000}).encode()
        assert post(h.port, signed('msg-large', body))[0] == 200
        post(h.port, signed('msg-old', b'{}', stamp=1))
        b.until('the letter', 'document.querySelector("#deadrows").innerText.includes("too.large")')
        b.until('the reason', 'document.querySelector("#refusedrows").innerText.includes("stale")')
        assert 'dead letter of events' in b.text('#problems') and 'refused in the last' in b.text('#problems')
        redis('CONFIG', 'SET', 'proto-max-bulk-len', str(64 << 20))
        b.click('#deadrows .letter .btn')
        until('it has come', lambda: any(f['type'] == b'too.large' for _, f in redis.entries('events')))
        b.until('no letter is left', 'document.querySelectorAll("#deadrows li").length === 0')
        assert b.complaints == [], b.complaints
    finally:
        stop_all(h, redis)


def markup_stays_text():
    """a body, a type, a subject and an id with markup in them stay text; bytes that are no text are shown as such"""
    h = Hookline().start()
    try:
        lsns = [opened(h, EVIL.encode()), opened(h, bytes(range(256)), 'application/octet-stream')]
        body = '{"type": "' + EVIL.replace('"', '\\"') + '", "data": {"id": "' + EVIL.replace('"', '\\"') + '", "n": 12345678901234567890}}'
        r = post(h.port, signed('<b>id</b>', body.encode()))
        lsns.append(json.loads(r[2])['lsn'])
        b = look(h)
        b.until('all are there', f'{ROWS} === 3')
        b.click(row(lsns[0]))
        b.until('it is open', 'document.querySelector("#event").open')
        assert b.text('#body') == EVIL, b.text('#body')
        b.click('#eventclose')
        b.click(row(lsns[1]))
        b.until('the bytes', 'document.querySelector("#body").textContent.startsWith("000000  00 01 02")')
        b.click('#eventclose')
        b.click(row(lsns[2]))
        b.until('the other', 'document.querySelector("#eventtitle").textContent.includes("pwned")')
        assert '12345678901234567890' in b.text('#body') and '<b>id</b>' in b.text('#facts') + b.text('#headers')
        b.click('#raw')
        assert b.js('document.querySelector("#body").textContent') == body
        assert b.js('window.pwned === undefined && document.querySelectorAll("img, #main script, #event script, #facts b").length === 0')
        assert b.complaints == [], b.complaints
    finally:
        stop_all(h)


def found():
    """events are found by id, job, type, time and LSN, with the keyboard alone"""
    h = Hookline().start()
    try:
        first = [send(h, n) for n in range(5)]
        time.sleep(1.1)
        between = time.time()
        send(h, 5, 'batch.failed')
        b = look(h)
        b.until('all are there', f'{ROWS} === 6')

        def search(text):
            b.js('document.activeElement.blur()')
            b.key('/', 191, '/')
            b.until('the field', 'document.activeElement.id === "what"')
            b.js('document.activeElement.select()')
            b.type(text)
            b.key('Enter', 13, '\r')
            b.until('it has looked', 'document.querySelector("#mode").textContent.startsWith("found")')

        for text, job in [('msg-2', 'job-2'), ('job-3', 'job-3'), (str(first[1]), 'job-1')]:
            search(text)
            assert b.js(ROWS) == 1 and job in b.text('#eventrows'), (text, b.text('#eventrows'))
        search('nobody')
        assert 'Nothing was found' in b.text('#events')
        b.key('Escape', 27)
        b.key('Escape', 27)
        b.until('live again', f'document.querySelector("#mode").textContent === "live" && {ROWS} === 6')
        b.js('document.querySelector("#type").value = "batch.*"')
        search('')
        assert b.js(ROWS) == 1 and 'job-5' in b.text('#eventrows')
        b.js(f'document.querySelector("#type").value = ""; document.querySelector("#to").value = new Date({int(between * 1000)} - '
             'new Date().getTimezoneOffset() * 60000).toISOString().slice(0, 19)')
        search('')
        assert b.js(ROWS) == 5 and 'job-5' not in b.text('#eventrows')
        b.js('document.activeElement.blur()')
        b.key('j', 74, 'j')
        b.key('j', 74, 'j')
        b.key('Enter', 13, '\r')
        b.until('it is open', 'document.querySelector("#event").open && document.querySelector("#facts").innerText.includes("job-3")')
        b.key('Escape', 27)
        b.until('it is closed', '!document.querySelector("#event").open')
        assert b.complaints == [], b.complaints
    finally:
        stop_all(h)


def with_a_token():
    """it asks for the token, says when it is wrong, keeps it nowhere; with one that only reads it says what it may not"""
    redis = Redis().start()
    h = Hookline(f'  events: {{ redis: {{ url: "unix:{redis.socket}", stream: events }} }}')
    with open(h.config) as f:
        text = f.read()
    with open(h.config, 'w') as f:
        f.write(text.replace(f'{h.admin} }}', f'{h.admin}, token: secret-of-all, read_token: secret-of-some }}'))
    try:
        h.spawn([HOOKLINE, 'serve', '-c', h.config], 'log')
        until('it is ready', lambda: ' info ready ' in h.text('log'))
        send(h, 1)
        b = look(h)
        b.until('it asks', 'document.querySelector("#ask").open')
        assert b.js(ROWS) == 0 and b.complaints == [], b.complaints
        give('wrong')
        b.until('it says so', 'document.querySelector("#askwhy").textContent.includes("not taken")')
        b.complaints.clear()  # the browser tells of the 401
        give('secret-of-all')
        b.until('it is seen', f'{ROWS} === 1')
        send(h, 2)
        b.until('the flow', f'{ROWS} === 2')
        assert b.js('JSON.stringify([localStorage, sessionStorage, document.cookie, location.href])').count('secret') == 0
        assert b.js('document.documentElement.outerHTML').count('secret-of-all') == 0
        assert b.complaints == [], b.complaints
        b = look(h, 'secret-of-some')
        b.until('it is seen', f'{ROWS} === 2')
        b.click('#sinkrows .btn')
        b.click('#sinkrows .btn')
        b.until('it says why', 'document.querySelector("#toast").textContent === "this token may only read"')
    finally:
        stop_all(h, redis)


def hidden_bodies():
    """with admin.show_bodies: false neither headers nor body reach the page; a reload of the setting counts at once"""
    h = Hookline()
    with open(h.config) as f:
        text = f.read()

    def write(shown):
        with open(h.config, 'w') as f:
            f.write(text.replace(f'{h.admin} }}', f'{h.admin}, show_bodies: {shown} }}'))
    write('false')
    try:
        h.start()
        lsn = opened(h, b'a-secret-in-the-body')
        b = look(h)
        b.until('it is there', f'{ROWS} === 1')
        b.click(row(lsn))
        b.until('it is open', 'document.querySelector("#event").open && !document.querySelector("#hidden").hidden')
        assert b.js('document.querySelector("#shown").hidden') and 'a-secret' not in b.js('document.documentElement.outerHTML')
        said = json.loads(h.get(f'/v1/events/{lsn}?view=true')[1])
        assert said['hidden'] and 'headers' not in said and 'body_base64' not in said, said
        assert json.loads(h.get(f'/v1/events/{lsn}')[1])['data_base64'], 'consumers read on'
        write('true')
        h.reload()
        until('it has reloaded', lambda: 'configuration reloaded' in h.text('log'))
        b.click('#eventclose')
        b.click(row(lsn))
        b.until('it is shown', 'document.querySelector("#body").textContent === "a-secret-in-the-body"')
        assert b.complaints == [], b.complaints
    finally:
        stop_all(h)


def small_and_gone():
    """on a small phone nothing is wider than the screen; a bridge that goes away is told, and that it is back"""
    h = Hookline('  held: { redis: { url: "unix:/nowhere" } }').start()
    try:
        for n in range(30):
            send(h, n, 'a.type.with.a.rather.long.name.that.goes.on' * (n % 3 + 1))
        b = look(h, width=340, height=700, phone=True, dark=True)
        b.until('all are there', f'{ROWS} === 30')
        b.until('what is wrong', 'document.querySelector("#headline").textContent.startsWith("held cannot be reached")')
        assert b.js('document.documentElement.scrollWidth') <= 340, b.js('document.documentElement.scrollWidth')
        assert b.complaints == [], b.complaints
        h.kill()
        b.until('it is told', 'document.querySelector("#headline").textContent === "The bridge does not answer"')
        h.start()
        send(h, 99)
        b.until('it is back', f'document.querySelector("#linktext").textContent === "live" && {ROWS} === 31')
    finally:
        stop_all(h)


if __name__ == '__main__':
    try:
        Tap().run(policy, flow_and_steering, markup_stays_text, found, with_a_token, hidden_bodies, small_and_gone)
    finally:
        if browser:
            browser.clean()
