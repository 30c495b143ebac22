// amqp-connection-manager: publishes numbers and consumes them until its input ends and all that was confirmed is where it should
// be, while the server is killed and started again. What becomes of a number goes by its last digit: 3 finds no queue and is
// returned, 5 is given back once, 7 is a dead letter. The exchange does not outlive the server, the queues do.
// Usage: node recover.js PORT PREFIX [loses-dead-letters]. A line for each thing that it hears. The last word is for a
// server that publishes dead letters without confirms, so that those under way when it is killed may be missing.
'use strict';
const assert = require('node:assert');
const manager = require('amqp-connection-manager');

const [port, prefix, loses] = process.argv.slice(2);
const [exchange, queue, dead, full] = [`${prefix}-orders`, `${prefix}-0`, `${prefix}-1`, `${prefix}-2`];
const UNDER_WAY = 20;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const say = (...words) => console.log(words.join(' '));
const number = (message) => JSON.parse(message.content).number;

async function topology(channel) {
  await channel.assertExchange(exchange, 'direct', { durable: false });
  await channel.assertQueue(dead, { durable: true });
  await channel.assertQueue(queue, { durable: true, deadLetterExchange: '', deadLetterRoutingKey: dead });
  await channel.assertQueue(full, { durable: false, maxLength: 0, arguments: { 'x-overflow': 'reject-publish' } });
  await channel.bindQueue(queue, exchange, 'a');
}

async function main() {
  const url = `amqp://guest:guest@127.0.0.1:${port}/`;
  const connection = manager.connect([url], { reconnectTimeInSeconds: 0.05, heartbeatIntervalInSeconds: 5 });
  const confirmed = new Set(), settled = new Set();
  connection.on('disconnect', () => {
    if (loses) for (const which of confirmed) if (which % 10 === 7) settled.add(which);
    say('lost');
  });
  const came = (what, which) => {
    settled.add(which);
    say(what, which);
  };
  const producer = connection.createChannel({
    json: true,
    setup: async (channel) => {
      channel.on('return', (message) => {
        assert.strictEqual(message.fields.replyCode, 312);
        came('returned', number(message));
      });
      await topology(channel);
    },
  });
  const consumer = connection.createChannel({
    setup: async (channel) => {
      const take = (from, handle) => channel.consume(from, (message) => {
        try {
          handle(message);
        } catch (error) {
          if (error instanceof assert.AssertionError) throw error;     // else the channel is gone: it comes again
        }
      });
      await topology(channel);
      await channel.prefetch(UNDER_WAY);
      await take(queue, (message) => {
        const which = number(message);
        if (which % 10 === 7) {
          channel.nack(message, false, false);
        } else if (which % 10 === 5 && !message.fields.redelivered) {
          channel.nack(message);
        } else {
          came('came', which);
          channel.ack(message);
        }
      });
      await take(dead, (message) => {
        const [death] = message.properties.headers['x-death'];
        assert.deepStrictEqual([death.queue, death.reason, death['routing-keys']], [queue, 'rejected', ['a']]);
        came('died', number(message));
        channel.ack(message);
      });
      say('connected');
    },
  });
  for (const channel of [producer, consumer]) channel.on('error', () => {});    // a setup that was cut is tried again

  // What was not confirmed when a connection was lost is refused to the program, which publishes it once more.
  const key = (which) => (which % 10 === 3 ? 'nowhere' : 'a');
  const send = (which) => producer.publish(exchange, key(which), { number: which }, { persistent: true, mandatory: true })
    .then(() => {
      confirmed.add(which);
      say('confirmed', which);
    }, () => send(which));
  let ending = false, count = 0;
  process.stdin.on('end', () => { ending = true; }).resume();
  await consumer.waitForConnect();
  await assert.rejects(producer.sendToQueue(full, {}), /nack/);
  say('refused');
  while (!ending) {
    if (count - confirmed.size < UNDER_WAY) send(count++);
    else await sleep(1);
    if (count % 10 === 0) await sleep(1);
  }
  while (confirmed.size < count || settled.size < count) await sleep(10);
  await consumer.close();
  await producer.close();
  await connection.close();
  say('done');
  process.exit(0);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
