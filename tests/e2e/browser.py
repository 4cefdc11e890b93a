"""A real Chromium, driven over its own protocol (DevTools, JSON with NUL at the end, over two pipes): nothing to install
beside the browser. Every complaint in its console is kept, as is what a page threw and what its policy forbade."""
import base64
import json
import os
import shutil
import subprocess
import tempfile

from servers import Skip, until

FLAGS = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
         '--disable-component-update', '--disable-sync', '--disable-extensions', '--hide-scrollbars', '--remote-debugging-pipe']


class Chromium:
    def __init__(self):
        program = shutil.which('chromium') or shutil.which('chromium-browser') or shutil.which('google-chrome')
        if not program:
            raise Skip('NO CHROMIUM HERE: the page has not been looked at by a browser')
        self.dir = tempfile.mkdtemp(prefix='hookline-chromium-')
        theirs, self.out = os.pipe()
        self.inn, their_out = os.pipe()
        # the browser reads from descriptor 3 and writes to 4
        self.p = subprocess.Popen(['sh', '-c', f'exec "$@" 3<&{theirs} 4>&{their_out}', 'sh', program, *FLAGS,
                                   f'--user-data-dir={self.dir}'], pass_fds=(theirs, their_out),
                                  stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
        os.close(theirs)
        os.close(their_out)
        self.rest, self.next, self.session, self.complaints = b'', 0, None, []
        target = self.call('Target.createTarget', url='about:blank')['targetId']
        self.session = self.call('Target.attachToTarget', targetId=target, flatten=True)['sessionId']
        for domain in ('Page', 'Runtime', 'Log', 'Network'):
            self.call(domain + '.enable')

    def read(self):
        while b'\0' not in self.rest:
            piece = os.read(self.inn, 1 << 20)
            if not piece:
                raise RuntimeError('the browser has gone')
            self.rest += piece
        one, self.rest = self.rest.split(b'\0', 1)
        return json.loads(one)

    def call(self, method, **params):
        self.next += 1
        message = {'id': self.next, 'method': method, 'params': params}
        if self.session:
            message['sessionId'] = self.session
        os.write(self.out, json.dumps(message).encode() + b'\0')
        while True:
            m = self.read()
            if m.get('id') == self.next:
                if 'error' in m:
                    raise RuntimeError(f'{method}: {m["error"]}')
                return m['result']
            self.note(m)

    def note(self, m):
        p = m.get('params', {})
        if m.get('method') == 'Runtime.consoleAPICalled' and p['type'] in ('error', 'warning', 'assert'):
            self.complaints.append(' '.join(str(a.get('value', a.get('description'))) for a in p['args']))
        elif m.get('method') == 'Runtime.exceptionThrown':
            self.complaints.append(json.dumps(p['exceptionDetails'])[:500])
        elif m.get('method') == 'Log.entryAdded' and p['entry']['level'] in ('error', 'warning'):
            self.complaints.append(p['entry']['text'] + ' ' + p['entry'].get('url', ''))

    def look(self, width=1440, height=900, dark=False, scale=1, phone=False):
        self.call('Emulation.setDeviceMetricsOverride', width=width, height=height, deviceScaleFactor=scale, mobile=phone)
        self.call('Emulation.setEmulatedMedia', features=[{'name': 'prefers-color-scheme', 'value': 'dark' if dark else 'light'}])

    def go(self, url):
        self.call('Page.navigate', url=url)

    def js(self, expression):
        """The value of an expression; a promise is awaited."""
        r = self.call('Runtime.evaluate', expression=expression, returnByValue=True, awaitPromise=True)
        if 'exceptionDetails' in r:
            raise RuntimeError(r['exceptionDetails']['exception'].get('description', r['exceptionDetails']['text']))
        return r['result'].get('value')

    def text(self, selector):
        return self.js(f'[...document.querySelectorAll({json.dumps(selector)})].map(e => e.innerText).join("\\n")')

    def until(self, what, expression, seconds=30):
        until(f'{what} ({expression})', lambda: self.js(expression), seconds)

    def click(self, selector):
        """With the mouse, in the middle of it."""
        self.js(f'document.querySelector({json.dumps(selector)}).scrollIntoView({{block: "center"}})')
        at = self.js(f'(r => [r.x + r.width / 2, r.y + r.height / 2])(document.querySelector({json.dumps(selector)}).getBoundingClientRect())')
        for kind in ('mouseMoved', 'mousePressed', 'mouseReleased'):
            self.call('Input.dispatchMouseEvent', type=kind, x=at[0], y=at[1], button='left', clickCount=1)

    def type(self, text):
        self.call('Input.insertText', text=text)

    def key(self, key, code=0, text=''):
        for kind in ('keyDown', 'keyUp'):
            self.call('Input.dispatchKeyEvent', type=kind, key=key, windowsVirtualKeyCode=code, **({'text': text} if text else {}))

    def picture(self, path, full=False):
        r = self.call('Page.captureScreenshot', format='png', captureBeyondViewport=full)
        with open(path, 'wb') as f:
            f.write(base64.b64decode(r['data']))

    def clean(self):
        self.p.kill()
        self.p.wait()
        os.close(self.out)
        os.close(self.inn)
        shutil.rmtree(self.dir, ignore_errors=True)
