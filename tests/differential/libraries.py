"""The providers' own libraries for Python behind one face. Each verifies a request as a web framework hands it over:
header names in lower case, values without blanks around them, repeated headers joined by commas, body as bytes.

What a library raises is a refusal, whatever it is: the request would not be taken.
"""
import contextlib
import datetime as clock
import io
import time
import urllib.parse


class Time:
    """One clock for all of them, set before each call."""
    now_s = 0.0


class Now(clock.datetime):
    @classmethod
    def now(cls, tz=None):
        return clock.datetime.fromtimestamp(Time.now_s, tz)


class StandardWebhooks:
    module, header = 'standardwebhooks.webhooks', 'webhook-'

    def __init__(self):
        import standardwebhooks.webhooks
        standardwebhooks.webhooks.datetime = Now
        self.webhook = self.load()

    def load(self):
        from standardwebhooks.webhooks import Webhook
        return Webhook

    def sign(self, secret, d):
        stamp = clock.datetime.fromtimestamp(d.stamp, clock.timezone.utc)
        return {d.scheme.sig_header: self.webhook(secret).sign(d.ident, stamp, d.body.decode())}

    def verify(self, secret, headers, body, url):
        self.webhook(secret).verify(body, headers, json_parse=False)
        return True


class Svix(StandardWebhooks):
    def load(self):
        from svix.webhooks import Webhook
        return Webhook

    def verify(self, secret, headers, body, url):
        self.webhook(secret).verify(body, headers)
        return True


class Stripe:
    def __init__(self):
        from stripe import WebhookSignature
        self.signature = WebhookSignature

    def sign(self, secret, d):
        return {'stripe-signature': self.signature.generate_signature_header(d.body.decode(), secret, d.stamp)}

    def verify(self, secret, headers, body, url):
        return self.signature.verify_header(body, headers.get('stripe-signature'), secret, 300)


class OpenAI:
    def __init__(self):
        from openai import OpenAI as Client
        self.client = Client(api_key='unused', webhook_secret='unused')

    sign = None

    def verify(self, secret, headers, body, url):
        self.client.webhooks.verify_signature(body, headers, secret=secret)
        return True


class Slack:
    def __init__(self):
        from slack_sdk.signature import Clock, SignatureVerifier

        class Set(Clock):
            def now(self):
                return Time.now_s
        self.verifier = lambda secret: SignatureVerifier(secret, Set())

    def sign(self, secret, d):
        return {'x-slack-signature': self.verifier(secret).generate_signature(timestamp=str(d.stamp), body=d.body)}

    def verify(self, secret, headers, body, url):
        return self.verifier(secret).is_valid_request(body, headers)


class Form(dict):
    """Repeated fields as Django and Flask keep them."""
    def __init__(self, body):
        super().__init__()
        for k, v in urllib.parse.parse_qsl(body.decode(), keep_blank_values=True):
            self.setdefault(k, []).append(v)

    def getlist(self, name):
        return self[name]


class Twilio:
    def __init__(self):
        from twilio.request_validator import RequestValidator
        self.validator = RequestValidator

    def sign(self, secret, d):
        return {'x-twilio-signature': self.validator(secret).compute_signature(d.url, Form(d.body))}

    def verify(self, secret, headers, body, url):
        params = body.decode() if 'bodySHA256' in url else Form(body)
        return self.validator(secret).validate(url, params, headers.get('x-twilio-signature', ''))


class Discord:
    def __init__(self):
        import discord_interactions
        self.verify_key = discord_interactions.verify_key

    sign = None

    def verify(self, secret, headers, body, url):
        with contextlib.redirect_stdout(io.StringIO()):
            return self.verify_key(body, headers['x-signature-ed25519'], headers['x-signature-timestamp'], secret)


class GidgetHub:
    def __init__(self):
        from gidgethub.sansio import validate_event
        self.validate = validate_event

    sign = None

    def verify(self, secret, headers, body, url):
        self.validate(body, signature=headers['x-hub-signature-256'], secret=secret)
        return True


LIBRARIES = {
    'standardwebhooks': StandardWebhooks,
    'svix': Svix,
    'stripe': Stripe,
    'openai': OpenAI,
    'slack-sdk': Slack,
    'twilio': Twilio,
    'discord-interactions': Discord,
    'gidgethub': GidgetHub,
}


def set_clock(now_ms):
    Time.now_s = now_ms / 1000


def take_over_clock():
    time.time = lambda: Time.now_s
