"""How each provider signs, as far as a test must know to sign what no honest sender would.

A scheme makes the headers of a delivery from its parts. What stands in the parts (an id with a dot, a time with a
sign) is signed as it is; the libraries sign the ordinary deliveries themselves.
"""
import base64
import hashlib
import hmac
import urllib.parse


def strict64(raw):
    return base64.b64encode(raw).decode()


def standard_key(secret):
    """The bytes of a whsec_ secret."""
    text = secret.removeprefix('whsec_')
    return base64.b64decode(text + '=' * (-len(text) % 4))


def utf8(text):
    """Header texts hold bytes as latin-1; a signature is over the bytes."""
    return text.encode('latin-1')


class Scheme:
    """The parts of one way to sign; None where a provider does without."""
    id_header = time_header = separator = None
    sig_header = ''
    prefix = ''         # before a signature
    encoding = 'hex'    # or base64
    hash = hashlib.sha256
    decoded_secret = False  # whsec_BASE64, not text
    content_type = 'application/json'

    def key(self, secret):
        return standard_key(secret) if self.decoded_secret else secret.encode()

    def message(self, ident, stamp, body, url):
        return body

    def mac(self, secret, ident, stamp, body, url):
        return hmac.new(self.key(secret), self.message(ident, stamp, body, url), self.hash).digest()

    def encode(self, mac):
        return strict64(mac) if self.encoding == 'base64' else mac.hex()

    def item(self, mac):
        return self.prefix + self.encode(mac)

    def value(self, stamp, items):
        """The signature header's value."""
        return (self.separator or '').join(items)

    def headers(self, ident, stamp, value):
        out = []
        if self.id_header:
            out.append((self.id_header, ident))
        if self.time_header:
            out.append((self.time_header, stamp))
        return out + [(self.sig_header, value)]


class Standard(Scheme):
    id_header, time_header, sig_header = 'webhook-id', 'webhook-timestamp', 'webhook-signature'
    separator, prefix, encoding, decoded_secret = ' ', 'v1,', 'base64', True

    def message(self, ident, stamp, body, url):
        return utf8(f'{ident}.{stamp}.') + body


class Svix(Standard):
    id_header, time_header, sig_header = 'svix-id', 'svix-timestamp', 'svix-signature'


class Stripe(Scheme):
    sig_header, separator, prefix = 'stripe-signature', ',', 'v1='

    def message(self, ident, stamp, body, url):
        return utf8(f'{stamp}.') + body

    def value(self, stamp, items):
        return ','.join(['t=' + stamp] + items)


class GitHub(Scheme):
    id_header, sig_header, prefix = 'x-github-delivery', 'x-hub-signature-256', 'sha256='


class Slack(Scheme):
    time_header, sig_header, prefix = 'x-slack-request-timestamp', 'x-slack-signature', 'v0='

    def message(self, ident, stamp, body, url):
        return utf8(f'v0:{stamp}:') + body


class Twilio(Scheme):
    sig_header, encoding, hash = 'x-twilio-signature', 'base64', hashlib.sha1
    content_type = 'application/x-www-form-urlencoded'

    def message(self, ident, stamp, body, url):
        if 'bodySHA256=' in url:
            return url.encode()
        pairs = set(urllib.parse.parse_qsl(body.decode('utf-8', 'replace'), keep_blank_values=True))
        return (url + ''.join(k + v for k, v in sorted(pairs))).encode()


class Discord(Scheme):
    """The secret of the table is the seed; hookline and the libraries get the public key."""
    time_header, sig_header = 'x-signature-timestamp', 'x-signature-ed25519'

    def message(self, ident, stamp, body, url):
        return utf8(stamp) + body

    def mac(self, secret, ident, stamp, body, url):
        from nacl.signing import SigningKey
        return SigningKey(bytes.fromhex(secret)).sign(self.message(ident, stamp, body, url)).signature

    @staticmethod
    def public(secret):
        from nacl.signing import SigningKey
        return SigningKey(bytes.fromhex(secret)).verify_key.encode().hex()
