// amqp-connection-manager: publishes and consumes on, while its connections are cut again and again by a proxy here.
// Usage: node reconnect.js PORT PREFIX. Prints "passed" at the end.
'use strict';
const assert = require('node:assert');
const net = require('node:net');
const manager = require('amqp-connection-manager');

const [port, prefix] = process.argv.slice(2);
const queue = `${prefix}-0`;
const MANY = 300;
const pairs = new Set();

const proxy = net.createServer((client) => {
  const server = net.connect(Number(port), '127.0.0.1');
  const pair = [client, server];
  pairs.add(pair);
  const end = () => {
    pairs.delete(pair);
    for (const socket of pair) socket.destroy();
  };
  for (const socket of pair) socket.on('error', end).on('close', end);
  client.pipe(server).pipe(client);
});

function cut() {
  for (const pair of [...pairs]) for (const socket of pair) socket.destroy();
}

async function main() {
  await new Promise((resolve) => proxy.listen(0, '127.0.0.1', resolve));
  const url = `amqp://guest:guest@127.0.0.1:${proxy.address().port}/`;
  const connection = manager.connect([url], { reconnectTimeInSeconds: 0.05, heartbeatIntervalInSeconds: 5 });
  let connected = 0;
  connection.on('connect', () => { connected++; });
  const setup = (channel) => channel.assertQueue(queue, { durable: true });
  const producer = connection.createChannel({ json: true, setup });
  const seen = new Set();
  let finished;
  const all = new Promise((resolve) => { finished = resolve; });
  const consumer = connection.createChannel({
    setup: async (channel) => {
      await setup(channel);
      await channel.prefetch(10);
      await channel.consume(queue, (message) => {
        seen.add(JSON.parse(message.content).number);
        try {
          channel.ack(message);
        } catch {
          // the channel was cut meanwhile: it comes again
        }
        if (seen.size === MANY) finished();
      });
    },
  });
  for (const channel of [producer, consumer]) channel.on('error', () => {});    // a setup that was cut is tried again
  await consumer.waitForConnect();
  // What was not confirmed when a connection was cut is refused to the program, which publishes it once more.
  const send = (number) => producer.sendToQueue(queue, { number }, { persistent: true }).catch(() => send(number));
  const sent = [];
  for (let number = 0; number < MANY; number++) {
    sent.push(send(number));
    if (number % 100 === 50) cut();
    if (number % 10 === 0) await new Promise(setImmediate);
  }
  await Promise.all(sent);
  await all;
  assert.ok(connected >= 2, `connected ${connected} times`);
  await consumer.close();
  await producer.close();
  await connection.close();
  proxy.close();
  console.log('passed');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
