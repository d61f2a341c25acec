// A certified OAuth server (npm oidc-provider) as an independent peer: PKCE demanded, rotation with reuse detection, revocation,
// introspection, RFC 9207, and a consent page where scopes can be left out. It is told its one client by the environment, prints
// {"issuer": …} when it listens, and ends when its standard input does.
import { generateKeyPairSync, randomBytes } from 'node:crypto';
import { createServer } from 'node:http';

import Provider from 'oidc-provider';

const { CLIENT_ID, CLIENT_SECRET, REDIRECT_URI } = process.env;
const listener = createServer();
await new Promise((resolve) => listener.listen(0, '127.0.0.1', resolve));
const issuer = `http://127.0.0.1:${listener.address().port}`;

const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
const provider = new Provider(issuer, {
  clients: [
    {
      client_id: CLIENT_ID,
      client_secret: CLIENT_SECRET,
      redirect_uris: [REDIRECT_URI],
      grant_types: ['authorization_code', 'refresh_token'],
      token_endpoint_auth_method: 'client_secret_basic',
    },
  ],
  scopes: ['openid', 'read', 'write', 'admin'],
  claims: { openid: ['sub', 'email', 'name'] },
  conformIdTokenClaims: false,
  findAccount: (_ctx, sub) => ({
    accountId: sub,
    claims: () => ({ sub, email: `${sub}@peer.example`, name: 'Ada of the peer' }),
  }),
  pkce: { required: () => true },
  rotateRefreshToken: true,
  issueRefreshToken: (_ctx, client) => client.grantTypeAllowed('refresh_token'),
  features: {
    devInteractions: { enabled: false },
    revocation: { enabled: true },
    introspection: { enabled: true },
  },
  interactions: { url: (_ctx, interaction) => `/interaction/${interaction.uid}` },
  ttl: { AccessToken: 600, AuthorizationCode: 60, Grant: 3600, IdToken: 600, Interaction: 600, RefreshToken: 3600, Session: 3600 },
  cookies: { keys: [randomBytes(32).toString('hex')] },
  jwks: { keys: [{ ...privateKey.export({ format: 'jwk' }), use: 'sig', alg: 'RS256' }] },
});
const oidc = provider.callback();

function page(asked) {
  const boxes = asked.map((name) => `<label><input type="checkbox" name="scope" value="${name}" checked> ${name}</label><br>`);
  return (
    '<!doctype html><html lang="en"><meta charset="utf-8"><title>Peer: allow?</title><h1>Allow Customhouse?</h1>' +
    `<form method="post">${boxes.join('')}<button name="decision" value="allow">Allow</button>` +
    '<button name="decision" value="deny">Deny</button></form></html>'
  );
}

async function form(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  return new URLSearchParams(Buffer.concat(parts).toString());
}

async function interact(request, response) {
  const details = await provider.interactionDetails(request, response);
  const { prompt, params, session } = details;
  if (prompt.name === 'login') {
    // Who logs in is not what is tested here; `login_hint` names the account.
    const account = params.login_hint ?? 'ada';
    await provider.interactionFinished(request, response, { login: { accountId: account } }, { mergeWithLastSubmission: false });
    return;
  }
  const asked = params.scope.split(' ');
  if (request.method === 'GET') {
    response.setHeader('content-type', 'text/html; charset=utf-8');
    response.end(page(asked));
    return;
  }
  const given = await form(request);
  if (given.get('decision') !== 'allow') {
    const denied = { error: 'access_denied', error_description: 'The user said no.' };
    await provider.interactionFinished(request, response, denied, { mergeWithLastSubmission: false });
    return;
  }
  const allowed = asked.filter((name) => given.getAll('scope').includes(name));
  const refused = asked.filter((name) => !allowed.includes(name));
  const grant = new provider.Grant({ accountId: session.accountId, clientId: params.client_id });
  if (allowed.length) grant.addOIDCScope(allowed.join(' '));
  if (refused.length) grant.rejectOIDCScope(refused.join(' '));
  const consent = { grantId: await grant.save() };
  await provider.interactionFinished(request, response, { consent }, { mergeWithLastSubmission: true });
}

listener.on('request', (request, response) => {
  if (!request.url.startsWith('/interaction/')) {
    oidc(request, response);
    return;
  }
  interact(request, response).catch(() => {
    response.statusCode = 400;
    response.end();
  });
});
process.stdin.on('end', () => process.exit(0)).resume();
process.stdout.write(`${JSON.stringify({ issuer })}\n`);
