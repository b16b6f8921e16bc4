// A certified OpenID Connect provider on loopback, for tests. Says its issuer, then serves until its standard input ends.
//
//   node main.js KEY CERTIFICATE CALLBACK
//
// Clients: `bastion` with the secret `s3cret-of-the-client`, and some that have none: `public`, `hasty`, whose device codes are good for three seconds, `busy`,
// who is told to slow down as long as nobody has signed in, and `browsers`, which has no device flow. Everybody may sign in, by any password, and is in the groups
// that their name says: `jane.sre.dev` is jane, in sre and dev. /asked lists when it was asked for something other than a page, and for what.
'use strict';

const fs = require('node:fs');
const https = require('node:https');

const [key, cert, callback] = process.argv.slice(2);
const server = https.createServer({ key: fs.readFileSync(key), cert: fs.readFileSync(cert) });

server.listen(0, '127.0.0.1', async () => {
  const { Provider } = await import('oidc-provider');
  const issuer = `https://127.0.0.1:${server.address().port}`;
  const client = (client_id, more) => ({
    client_id,
    redirect_uris: [callback],
    response_types: ['code'],
    grant_types: ['authorization_code', 'urn:ietf:params:oauth:grant-type:device_code'],
    token_endpoint_auth_method: 'none',
    ...more,
  });
  const provider = new Provider(issuer, {
    clients: [
      client('bastion', { client_secret: 's3cret-of-the-client', token_endpoint_auth_method: 'client_secret_basic' }),
      client('public'),
      client('hasty'),
      client('busy'),
      client('browsers', { grant_types: ['authorization_code'] }),
    ],
    features: { deviceFlow: { enabled: true } },
    ttl: { DeviceCode: (_, __, { clientId }) => (clientId === 'hasty' ? 3 : 600) },
    claims: { openid: ['sub', 'preferred_username'], groups: ['groups'] },
    scopes: ['openid', 'groups'],
    conformIdTokenClaims: false,
    findAccount: (_, sub) => ({
      accountId: sub,
      claims: () => ({ sub, preferred_username: sub.split('.')[0], groups: [...sub.split('.').slice(1), 'Not A Group'] }),
    }),
    cookies: { keys: ['of no use to anybody'] },
  });
  const asked = [];
  provider.use(async (ctx, next) => {
    if (ctx.path === '/asked') {
      ctx.body = asked;
      return;
    }
    if (ctx.path === '/token' || ctx.path.startsWith('/device/') || ctx.path.startsWith('/.well-known/')) {
      asked.push({ path: ctx.path, at: Date.now() });
    }
    await next();
    if (ctx.oidc?.client?.clientId === 'busy' && ctx.body?.error === 'authorization_pending') {
      ctx.body = { error: 'slow_down' };
    }
  });
  server.on('request', provider.callback());
  console.log(issuer);
  // Whoever started this reads no more.
  console.info = console.log = () => {};
});

process.stdin.resume();
process.stdin.on('end', () => process.exit(0));
