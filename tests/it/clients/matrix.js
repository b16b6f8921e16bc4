// What the ssh2 of npm does with a bastion: a line for each thing that it can do.
//
//   node matrix.js NODE_MODULES PORT USER PRIVATE_KEY HOST_KEY
'use strict';

const { createHash, randomBytes } = require('node:crypto');
const { readFileSync } = require('node:fs');

const [modules, port, user, privateKey, hostKey] = process.argv.slice(2);
const { Client } = require(`${modules}/ssh2`);

const BULK = Number(process.env.BASTION_TEST_BULK_MIB ?? 32) << 20;
const PIECE = 1 << 16;

function dial() {
  const client = new Client();
  const expected = Buffer.from(readFileSync(hostKey, 'utf8').split(' ')[1], 'base64');
  return new Promise((resolve, reject) => {
    client.on('ready', () => resolve(client)).on('error', reject);
    client.connect({
      host: '127.0.0.1',
      port: Number(port),
      username: user,
      privateKey: readFileSync(privateKey),
      hostVerifier: (key) => expected.equals(key),
      readyTimeout: 10_000,
    });
  });
}

function open(client, command, options = {}) {
  return new Promise((resolve, reject) => {
    client.exec(command, options, (error, stream) => (error ? reject(error) : resolve(stream)));
  });
}

function say(what, ok, ...seen) {
  console.log(ok ? what : `${what} FAILED: ${JSON.stringify(seen)}`);
}

async function collect(stream) {
  const pieces = [];
  for await (const piece of stream) pieces.push(piece);
  return Buffer.concat(pieces).toString();
}

async function run(client, command, sent) {
  const stream = await open(client, command);
  const code = new Promise((resolve) => stream.on('exit', resolve));
  stream.end(sent);
  const [stdout, stderr] = await Promise.all([collect(stream), collect(stream.stderr)]);
  return [stdout, stderr, await code];
}

async function exec(client) {
  const seen = await run(client, 'echo out; echo err >&2; exit 7');
  say('exec', JSON.stringify(seen) === JSON.stringify(['out\n', 'err\n', 7]), seen);
}

async function terminal(client) {
  const pty = { term: 'xterm', cols: 100, rows: 30 };
  const stream = await open(client, 'stty -echo; stty size; read line; stty size', { pty });
  let shown = '';
  const until = async (text) => {
    while (!shown.includes(text)) await new Promise((resolve) => setTimeout(resolve, 20));
  };
  stream.on('data', (piece) => (shown += piece));
  const closed = new Promise((resolve) => stream.on('close', resolve));
  await until('30 100');
  stream.setWindow(40, 120, 0, 0);
  await new Promise((resolve) => setTimeout(resolve, 200));
  stream.write('go\n');
  await closed;
  say('terminal', shown.includes('40 120'), shown);
}

async function send(stream, sent) {
  for (let at = 0; at < sent.length; at += PIECE) {
    if (!stream.write(sent.subarray(at, at + PIECE))) {
      await new Promise((resolve) => stream.once('drain', resolve));
    }
  }
  stream.end();
}

async function carry(client, name, every) {
  const sent = randomBytes(BULK);
  const stream = await open(client, 'cat');
  const sending = send(stream, sent);
  const digest = createHash('sha256');
  let since = 0;
  for await (const piece of stream) {
    digest.update(piece);
    since += piece.length;
    if (since >= every) {
      since = 0;
      // It has no public name, and the client asks by itself after a gigabyte only.
      client._protocol.rekey();
    }
  }
  await sending;
  const same = digest.digest('hex') === createHash('sha256').update(sent).digest('hex');
  say(name, same);
}

async function halfClose(client) {
  const seen = await run(client, 'cat; sleep 0.3; echo after', 'in');
  say('half-close', seen[0] === 'inafter\n', seen);
}

async function stalled(client) {
  const stream = await open(client, `head -c ${BULK} /dev/zero`);
  stream.pause();
  await new Promise((resolve) => setTimeout(resolve, 1000));
  const other = (await run(client, 'echo other'))[0];
  let taken = 0;
  for await (const piece of stream) taken += piece.length;
  say('stalled', other === 'other\n' && taken === BULK, other, taken);
}

async function fifty(client) {
  for (let n = 0; n < 50; n += 1) {
    const seen = (await run(client, `echo ${n}`))[0];
    if (seen !== `${n}\n`) return say('fifty', false, n, seen);
  }
  return say('fifty', true);
}

async function main() {
  const first = await dial();
  await exec(first);
  await terminal(first);
  await carry(first, 'bulk', Infinity);
  first.end();
  const second = await dial();
  await carry(second, 'rekey', 1 << 20);
  await halfClose(second);
  await stalled(second);
  await fifty(second);
  second.end();
}

main().catch((error) => {
  console.error(String(error));
  process.exit(1);
});
