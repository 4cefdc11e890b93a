// The providers' own libraries for Node behind one face: lines of JSON on standard input, one answer each.
// {"op":"load","library":L}                                        -> {"ok":true} or {"error":why}
// {"op":"sign","library":L,"secret":S,"id":I,"stamp":T,"body":B64,"url":U} -> {"headers":{...}} or {}
// {"op":"verify","library":L,"secret":S,"headers":{...},"body":B64,"url":U,"now_ms":N} -> {"accepted":bool}
// Headers come as node:http gives them: names in lower case, repeated ones joined by a comma and a blank.
// What a library throws is a refusal, whatever it is: the request would not be taken.
// It runs from the folder that the packages are installed in.
import { File } from 'node:buffer';
import { webcrypto } from 'node:crypto';
import { createInterface } from 'node:readline';
import querystring from 'node:querystring';

// Node 18 has these only in its modules; the libraries look for them as newer ones have them
globalThis.crypto ??= webcrypto;
globalThis.File ??= File;

const pick = (module, name) => module[name] ?? module.default[name];

let now = 0;
Date.now = () => now;

const standard = (name) => async () => {
  const Webhook = pick(await import(name), 'Webhook');
  return {
    sign: (d) => new Webhook(d.secret).sign(d.id, new Date(d.stamp * 1000), d.body.toString()),
    // an empty body or one that is no JSON is verified before it is parsed
    verify: (d) => {
      try {
        new Webhook(d.secret).verify(d.body, d.headers, { jsonParse: false });
      } catch (e) {
        if (!(e instanceof SyntaxError)) throw e;
      }
      return true;
    },
  };
};

const libraries = {
  standardwebhooks: standard('standardwebhooks'),
  svix: standard('svix'),
  stripe: async () => {
    const stripe = new (pick(await import('stripe'), 'default'))('sk_test_unused');
    return {
      sign: (d) =>
        stripe.webhooks.generateTestHeaderString({ payload: d.body.toString(), secret: d.secret, timestamp: d.stamp }),
      verify: (d) =>
        stripe.webhooks.signature.verifyHeader(d.body, d.headers['stripe-signature'], d.secret, 300),
    };
  },
  openai: async () => {
    const client = new (pick(await import('openai'), 'OpenAI'))({ apiKey: 'unused' });
    return {
      verify: async (d) => {
        await client.webhooks.verifySignature(d.body.toString(), d.headers, d.secret);
        return true;
      },
    };
  },
  replicate: async () => {
    const validate = pick(await import('replicate'), 'validateWebhook');
    return { verify: (d) => validate({ headers: d.headers, body: d.body.toString() }, d.secret) };
  },
  '@octokit/webhooks-methods': async () => {
    const methods = await import('@octokit/webhooks-methods');
    return {
      sign: (d) => methods.sign(d.secret, d.body.toString()),
      verify: (d) => methods.verify(d.secret, d.body.toString(), d.headers['x-hub-signature-256']),
    };
  },
  '@slack/bolt': async () => {
    const valid = pick(await import('@slack/bolt'), 'isValidSlackRequest');
    return {
      verify: (d) => valid({ signingSecret: d.secret, body: d.body.toString(), headers: d.headers }),
    };
  },
  twilio: async () => {
    const twilio = await import('twilio');
    const validate = pick(twilio, 'validateRequest');
    const validateBody = pick(twilio, 'validateRequestWithBody');
    const sign = pick(await import('twilio/lib/webhooks/webhooks.js'), 'getExpectedTwilioSignature');
    return {
      sign: (d) => sign(d.secret, d.url, { ...querystring.parse(d.body.toString()) }),
      verify: (d) => {
        const signature = d.headers['x-twilio-signature'];
        if (d.url.includes('bodySHA256')) return validateBody(d.secret, signature, d.url, d.body.toString());
        return validate(d.secret, signature, d.url, { ...querystring.parse(d.body.toString()) });
      },
    };
  },
  'discord-interactions': async () => {
    const verifyKey = pick(await import('discord-interactions'), 'verifyKey');
    return {
      // as the package's own middleware does
      verify: (d) => {
        const timestamp = d.headers['x-signature-timestamp'] || '';
        const signature = d.headers['x-signature-ed25519'] || '';
        return timestamp && signature && verifyKey(d.body, signature, timestamp, d.secret);
      },
    };
  },
};

const loaded = {};

async function answer(d) {
  const library = loaded[d.library];
  if (d.body !== undefined) d.body = Buffer.from(d.body, 'base64');
  if (d.op === 'load') {
    try {
      loaded[d.library] = await libraries[d.library]();
      return { ok: true };
    } catch (e) {
      return { error: String(e.message).split('\n')[0] };
    }
  }
  if (d.op === 'sign') return { value: library.sign ? await library.sign(d) : null };
  now = d.now_ms;
  try {
    return { accepted: Boolean(await library.verify(d)) };
  } catch (e) {
    return { accepted: false, why: String(e.message).split('\n')[0] };
  }
}

for await (const line of createInterface({ input: process.stdin, crlfDelay: Infinity }))
  process.stdout.write(JSON.stringify(await answer(JSON.parse(line))) + '\n');
