// An issuer of access tokens: npm's oauth2-mock-server, which signs them as JWTs and
// checks PKCE, with the memory that it lacks. A refresh token serves once, and an
// access token is known at an introspection endpoint (RFC 7662) while it lives.
//
//   node issuer.mjs FOLDER ISSUER-PORT INTROSPECTION-PORT SECONDS
//
// FOLDER has the package in its node_modules. Users are what login_hint says.
import { createRequire } from 'node:module';
import { createServer } from 'node:http';

const [folder, port, introspection, seconds] = process.argv.slice(2);
const { OAuth2Server } = createRequire(folder + '/')('oauth2-mock-server');

const codes = new Map();   // authorization code -> user
const refresh = new Map(); // refresh token -> user
const access = new Map();  // access token -> {user, end}
const now = () => Date.now() / 1000;

const server = new OAuth2Server();
await server.issuer.keys.generate('RS256');
server.service.on('beforeAuthorizeRedirect', (redirect, request) => {
  codes.set(redirect.url.searchParams.get('code'), request.query.login_hint);
});
server.service.on('beforeTokenSigning', (token) => {
  token.payload.jti = Math.random().toString(36); // no two tokens are the same
});
server.service.on('beforeResponse', (response, request) => {
  const form = request.body;
  const [known, name] = form.grant_type === 'refresh_token' ? [refresh, form.refresh_token] : [codes, form.code];
  const user = known.get(name);
  known.delete(name);
  if (!user) {
    response.statusCode = 400;
    response.body = { error: 'invalid_grant', error_description: 'unknown, or used before' };
    return;
  }
  response.body.expires_in = Number(seconds);
  access.set(response.body.access_token, { user, end: now() + Number(seconds) });
  refresh.set(response.body.refresh_token, user);
});
await server.start(Number(port), '127.0.0.1');

createServer((request, response) => {
  let form = '';
  request.on('data', (chunk) => { form += chunk; });
  request.on('end', () => {
    const found = access.get(new URLSearchParams(form).get('token'));
    const active = found !== undefined && found.end > now();
    response.setHeader('Content-Type', 'application/json');
    response.end(JSON.stringify(active ? { active, email: found.user, scope: 'mail' } : { active }));
  });
}).listen(Number(introspection), '127.0.0.1');
